"""The decoders of SegNet's table 1, on street scenes.

    python -m launch.sweep --experiment=segnet --workdir=runs/segnet --set data.name=folder:PATH

PATH is CamVid as a folder: train, val and test with images/ and labels/, and classes.txt.

Full size: --set data.image_size=null (the size of the files) --set model.width=1 --set
training.epochs=200.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.experiment import Experiment

TABLE = "Badrinarayanan, Kendall and Cipolla 2017, table 1"

EXPERIMENT = Experiment(
    name="segnet",
    question="Does the order of SegNet's decoders hold in a smaller network?",
    lecture="Remember which element was max during pooling, and fill that position during "
    "unpooling. Previous approaches are not data-driven!",
    published="CamVid at 480x360, mIoU: 43.3 bilinear interpolation without convolutions, 47.7 "
    "indices (SegNet-Basic), 44.1 learned without skips (FCN-Basic-NoAddition), 50.1 learned with "
    f"the encoder's maps added (FCN-Basic-NoDimReduction): {TABLE}.",
    expected="skips ahead, bilinear behind; indices and learned between them.",
    notes="A quarter of the channels (16), images stretched to 96 x 96 pixels (in the paper 480 x "
    "360), 30 epochs of Adam instead of SGD until the loss stops falling; class weights as in the "
    "paper. The learned decoders have a convolution after each transposed one, which the paper's "
    "have not. What can be compared is the order, not the figures.",
    base={
        "task": "segmentation",
        "data.name": "folder:camvid",
        "data.image_size": 96,
        "data.augmentation.flip": 0.5,
        "model.name": "segnet_basic",
        "model.width": 0.25,
        "loss.class_weights": "median_frequency",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 12,
        "training.epochs": 30,
        "evaluation.every_epochs": 5,
        "evaluation.batch_size": 50,
    },
    arms={
        "bilinear": {"model.decoder": "bilinear", "model.decoder_convolutions": 0},
        "indices": {"model.decoder": "max_unpool"},
        "learned": {"model.decoder": "transposed"},
        "skips": {"model.decoder": "transposed", "model.skips": "add"},
    },
    seeds=range(4),
    claims=(
        better("indices", "bilinear", source=TABLE, published="+4.4 (47.7, 43.3)"),
        better("indices", "learned", source=TABLE, published="+3.6 (47.7, 44.1)"),
        better("skips", "indices", source=TABLE, published="+2.4 (50.1, 47.7)"),
        better("skips", "bilinear", by=3, source=TABLE, published="+6.8 (50.1, 43.3)"),
        better(
            "indices",
            "bilinear",
            metric="boundary_f1",
            source=TABLE,
            published="+15.0 (35.8, 20.8)",
        ),
    ),
)
