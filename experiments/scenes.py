"""A digit anywhere in the image: dense layers, or an average over all places.

    python -m launch.sweep --experiment=scenes --workdir=runs/scenes

The residual network of seed 0 is what `encoders` starts from.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="scenes",
    question="Where the object may be anywhere, does a network learn faster without dense layers?",
    lecture="Pooling makes maps smaller and is invariant to translation.",
    published="Lin et al. 2014, section 3.2: global average pooling is more robust to spatial "
    "translations of the input.",
    expected="resnet8, which averages its last maps, far ahead of LeNet and VGG, whose dense "
    "layers have to learn a digit at each place.",
    notes="Scenes of one digit among pieces of others; 2,000 training images.",
    base={
        "data.name": "digit_boxes",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 64,
        "training.epochs": 12,
    },
    arms={
        "resnet8": {"model.name": "resnet8"},
        "lenet5_modern": {"model.name": "lenet5_modern"},
        "vgg_small": {"model.name": "vgg_small", "model.width": 0.25},
    },
    seeds=range(4),
    claims=(
        better("resnet8", "lenet5_modern", by=10, source="Lin et al. 2014, section 3.2"),
        better("resnet8", "vgg_small", by=10, source="Lin et al. 2014, section 3.2"),
    ),
)
