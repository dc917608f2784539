"""Batch norm: none, before or after the activation, at three learning rates.

python -m launch.sweep --experiment=batch_norm --workdir=runs/batch_norm
"""

from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

PLACES = {
    "before": {"model.norm.kind": "batch", "model.norm.placement": "before"},
    "after": {"model.norm.kind": "batch", "model.norm.placement": "after"},
    "none": {"model.norm.kind": "none", "model.norm.placement": "before"},
}
RATES = (0.02, 0.1, 0.5)

EXPERIMENT = Experiment(
    name="batch_norm",
    question="Does batch norm help, where should it stand, and does it allow larger rates?",
    deck="Normalise the inputs of the activation over the batch, then learn a scale and a shift; "
    "running averages take the place of the batch at test time.",
    published="Ioffe and Szegedy 2015: 72.2 % after 31.0 M steps without, 13.3 M with, 2.1 M with "
    "5 times the rate. ducha-aiki/caffenet-benchmark: none .471, before .474, after .499; in "
    "GoogLeNet before .603, after .596.",
    expected="without batch norm the largest rate diverges or stays at chance; with it all rates "
    "train; the place matters little.",
    notes="`after` in a residual block is convolution, activation, norm for the inner "
    "convolutions; the last norm stays before the addition.",
    base={
        "data.name": "digits",
        "data.image_size": 32,
        "training.batch_size": 64,
        "training.epochs": 8,
    },
    arms=in_blocks(
        {name: {"model.name": name} for name in ("lenet5_modern", "vgg_small", "resnet20")},
        {
            f"{place}_{rate}": {**overrides, "optimizer.learning_rate": rate}
            for rate in RATES
            for place, overrides in PLACES.items()
        },
    ),
    seeds=range(6),
)
