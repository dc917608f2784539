"""Maps of the encoder given to the decoder.

python -m launch.sweep --experiment=skips --workdir=runs/skips
"""

from cnnjax.ablation.claims import better, interaction
from cnnjax.ablation.design import crossed
from cnnjax.ablation.experiment import Experiment

SKIPS, DECODER = "model.skips", "model.decoder"

EXPERIMENT = Experiment(
    name="skips",
    question="Does a decoder need the encoder's maps, and which decoder needs them most?",
    lecture="Up-sampling, thus, retrieving the original features prev lost in H, W reduction.",
    published="Badrinarayanan et al. 2017, table 1, CamVid: mIoU 45.9 learned upsampling alone, "
    "50.1 with the encoder's maps added; 47.7 indices alone, 48.5 with them. Long et al. 2015, "
    "table 2: 59.4 without, 62.7 with two skips.",
    expected="A large gain at the boundaries; the less the more the decoder already knows of the "
    "positions, so least for max unpooling.",
    notes="Scenes of digits among pieces of others. Boundary F1 allows one pixel. Added maps are "
    "matched in channels by a 1x1 convolution. Batch norm and 2,000 steps, as in `downsampling`.",
    base={
        "task": "segmentation",
        "data.name": "digit_masks",
        "model.name": "vgg_small",
        "model.width": 0.25,
        "model.norm.kind": "batch",
        "model.decoder_convolutions": 1,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 16,
        "training.epochs": 16,
    },
    arms=crossed(
        {
            DECODER: {"nearest": "nearest", "unpool": "max_unpool", "learned": "transposed"},
            SKIPS: {"": "none", "add": "add", "concatenate": "concatenate"},
        }
    ),
    seeds=range(4),
    claims=(
        better(
            {SKIPS: "concatenate"},
            {SKIPS: "none"},
            by=2,
            metric="boundary_f1",
            source="Ronneberger et al. 2015, section 2: localize by concatenation",
        ),
        better(
            {SKIPS: "add"},
            {SKIPS: "none"},
            metric="miou",
            source="Badrinarayanan et al. 2017, table 1",
            published="+4.2 (50.1, 45.9) for learned upsampling",
        ),
        better({SKIPS: "concatenate"}, {SKIPS: "add"}, metric="miou", source="more channels"),
        interaction(
            {SKIPS: ("none", "add")},
            {DECODER: ("transposed", "max_unpool")},
            direction="negative",
            metric="miou",
            source="Badrinarayanan et al. 2017, table 1",
            published="+4.2 learned, +0.8 indices",
        ),
    ),
)
