"""Downsampling in the encoder: pooling, or convolutions with a stride.

python -m launch.sweep --experiment=downsampling --workdir=runs/downsampling
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="downsampling",
    question="Can an encoder's pooling be replaced by convolutions with a bigger stride?",
    lecture="We can replace max pooling layer with convolutional layer that has a bigger stride!",
    published="Springenberg et al. 2015, table 3: CIFAR-10 error 9.74 % with max pooling, 9.08 % "
    "with strided convolutions in its place (All-CNN-C), which have more parameters.",
    expected="Equal within 3 points of mIoU; strided convolutions have more parameters.",
    notes="Scenes of digits among pieces of others; transposed convolutions on the way up. "
    "Batch norm and 2,000 steps: after 500 without it networks had hardly learned.",
    base={
        "task": "segmentation",
        "data.name": "digit_masks",
        "model.name": "vgg_small",
        "model.width": 0.25,
        "model.norm.kind": "batch",
        "model.decoder": "transposed",
        "model.skips": "none",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 16,
        "training.epochs": 16,
    },
    arms={kind: {"model.pooling": kind} for kind in ("max", "average", "strided", "blur")},
    seeds=range(5),
    claims=(
        equivalent(
            "strided",
            "max",
            within=3,
            reason="about what one seed differs from another",
            metric="miou",
            source="the lecture: we can replace max pooling",
        ),
        better("max", "strided", metric="parameters", by=1, source="pooling has no weights"),
        better("max", "average", metric="boundary_f1", source="the maximum keeps edges"),
    ),
)
