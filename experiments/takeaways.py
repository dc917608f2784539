"""The lecture's advice taken together: half of all combinations of five choices.

    python -m launch.sweep --experiment=takeaways --workdir=runs/takeaways --data_dir=DIR

Full size: --set training.steps=20000 --set data.train_examples=null.
"""

from typing import Any

from cnnjax.ablation.claims import better, interaction
from cnnjax.ablation.design import fractional
from cnnjax.ablation.experiment import Experiment

FACTORS: dict[str, dict[str, Any]] = {
    "model.activation": {"tanh": "tanh", "relu": "relu"},
    "model.initializer": {"": "xavier_normal", "he": "he_normal"},
    "model.norm.kind": {"": "none", "bn": "batch"},
    "model.dropout.keep_prob": {"": 1.0, "drop": 0.8},
    "data.augmentation.shift_pixels": {"": 0, "shift": 2},
}
*FREE, LAST = FACTORS


def chosen(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lecture's choice against the other, over all arms."""
    without, with_ = FACTORS[path].values()
    return {path: with_}, {path: without}


EXPERIMENT = Experiment(
    name="takeaways",
    question="Does the advice hold: ReLU, He's initialisation, batch norm, dropout, augmentation, "
    "and do the gains add up?",
    lecture="Use ReLU, initialise as He, use batch norm or dropout, augment your data.",
    published="caffenet-benchmark: the single gains add up to .085, all together gain .060.",
    expected="batch norm gains most; He's initialisation nothing beside it; dropout and batch norm "
    "get in each other's way.",
    notes="A half of 2^5 arms in which main effects and pairs are mixed up with nothing shorter "
    "than three factors (resolution V). Each effect is a mean over the other choices.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "fashion_mnist",
        "data.train_examples": 3000,
        "training.batch_size": 50,
        "training.steps": 1000,
        "evaluation.every_epochs": 5,
        "optimizer.learning_rate": 0.02,
    },
    arms=fractional(FACTORS, {LAST: FREE}),
    seeds=range(5),
    claims=(
        *(better(*chosen(path), source="the lecture's takeaways") for path in FACTORS),
        interaction(
            {"model.dropout.keep_prob": (1.0, 0.8)},
            {"model.norm.kind": ("none", "batch")},
            direction="negative",
            source="the lecture: batch norm or dropout",
        ),
        interaction(
            {"model.initializer": ("xavier_normal", "he_normal")},
            {"model.activation": ("tanh", "relu")},
            direction="positive",
            source="He et al. 2015: made for rectifiers",
        ),
        interaction(
            {"model.initializer": ("xavier_normal", "he_normal")},
            {"model.norm.kind": ("none", "batch")},
            direction="negative",
            source="Ioffe and Szegedy 2015: less careful about initialisation",
        ),
    ),
)
