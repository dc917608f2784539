"""Batch norm: none, before or after the activation, at three learning rates.

    python -m launch.sweep --experiment=batch_norm --workdir=runs/batch_norm --data_dir=DIR

Full size: --set training.steps=10000 --set model.width=1 --set data.image_size=28.
"""

from cnnjax.ablation.claims import better, equivalent, interaction
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

PLACEMENTS = {
    "none": {"model.norm.kind": "none", "model.norm.placement": "before"},
    "before": {"model.norm.kind": "batch", "model.norm.placement": "before"},
    "after": {"model.norm.kind": "batch", "model.norm.placement": "after"},
}
RATES = {"x1": 0.01, "x5": 0.05, "x30": 0.3}

EXPERIMENT = Experiment(
    name="batch_norm",
    question="Does batch norm help, where should it stand, and does it allow larger rates?",
    lecture="Normalise the inputs of the activation over the batch, then learn a scale and a "
    "shift; running averages take the place of the batch at test time.",
    published="Ioffe and Szegedy 2015: 72.2 % after 31.0 M steps without, 13.3 M with, 2.1 M with "
    "5 times the rate. ducha-aiki/caffenet-benchmark: none .471, before .474, after .499; in "
    "GoogLeNet before .603, after .596.",
    expected="without batch norm the largest rate diverges or stays at chance; with it all rates "
    "train; the place matters little.",
    notes="Half the usual width, images of 14 x 14 pixels.",
    base={
        "model.width": 0.5,
        "model.dropout.keep_prob": 1.0,
        "data.name": "fashion_mnist",
        "data.image_size": 14,
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.steps": 400,
        "evaluation.every_epochs": 1,
    },
    arms=in_blocks(
        {name: {"model.name": name} for name in ("vgg_small", "inception_small")},
        {
            f"{placement}_{rate}": {**overrides, "optimizer.learning_rate": RATES[rate]}
            for rate in RATES
            for placement, overrides in PLACEMENTS.items()
        },
    ),
    seeds=range(5),
    claims=(
        better(
            "before_x1",
            "none_x1",
            source="Ioffe and Szegedy 2015: faster with it",
            published="+0.3 points (.474, .471), caffenet-benchmark, one run each; 72.2 % top-1 "
            "after 13.3 M steps instead of 31.0 M, Inception, ImageNet",
        ),
        better(
            "before_x5",
            "before_x1",
            source="Ioffe and Szegedy 2015: 5 times the rate",
            published="72.2 % top-1 after 2.1 M steps instead of 13.3 M, Inception, ImageNet",
        ),
        better("before_x30", "none_x30", by=5, source="Ioffe and Szegedy 2015: larger rates"),
        equivalent(
            "before_x5",
            "after_x5",
            within=1,
            reason="half of what caffenet-benchmark saw between the places, .474 and .499",
            source="the lecture: before the activation",
            published="after ahead by 2.5 points (.499, .474), in GoogLeNet before by 0.7 "
            "(.603, .596): caffenet-benchmark, one run each",
        ),
        interaction(
            {"model.norm.kind": ("none", "batch")},
            {"optimizer.learning_rate": (0.01, 0.3)},
            direction="positive",
            given={"model.norm.placement": "before"},
            source="the lecture: batch norm allows larger rates",
        ),
    ),
)
