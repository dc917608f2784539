"""Which activation, with and without batch norm, in a shallow and in a deeper network?

    python -m launch.sweep --experiment=activations --workdir=runs/activations --data_dir=DIR

Full size: --set training.steps=10000 --set data.image_size=28.
"""

from cnnjax.ablation.claims import better, chance_level, interaction
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment

CAFFENET = "caffenet-benchmark, 128-pixel ImageNet, one run each"
TESTED_LEVELS = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "leaky01": "leaky_relu",
    "elu": "elu",
    "linear": "identity",
}
arms = crossed({"model.activation": TESTED_LEVELS, "model.norm.kind": {"": "none", "bn": "batch"}})
arms |= {
    name: {"model.activation": "leaky_relu", "model.leaky_slope": 0.3, "model.norm.kind": kind}
    for name, kind in (("leaky30", "none"), ("leaky30_bn", "batch"))
}

EXPERIMENT = Experiment(
    name="activations",
    question="Which activation makes a convolutional network better, and does batch norm matter?",
    lecture="Sigmoid saturates, is not zero-centred, exp costs; tanh is zero-centred but "
    "saturates; ReLU is fast and does not vanish for x > 0 but can die; leaky ReLU does not die "
    "(a != 1).",
    published="ducha-aiki/caffenet-benchmark, 128-px ImageNet, top-1, single runs: ReLU .471, "
    "tanh .401, leaky .469, PReLU .485, ELU .488, none .389. Ioffe and Szegedy 2015: with batch "
    "norm a sigmoid Inception reaches 69.8 %, without it chance.",
    expected="relu and its relatives ahead of tanh, tanh ahead of sigmoid, linear last; without "
    "batch norm the deep sigmoid network stays at chance.",
    notes="He's initialisation in all arms, which suits relu. Images of 14 x 14 pixels. linear is "
    "leaky ReLU with slope 1. Chance level is claimed of a quarter of the runs: five seeds can "
    "show no more beside the other claims.",
    base={
        "model.name": "stack",
        "data.name": "fashion_mnist",
        "data.image_size": 14,
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.steps": 500,
        "evaluation.every_epochs": 1,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks({"depth4": {"model.depth": 4}, "depth14": {"model.depth": 14}}, arms),
    seeds=range(5),
    probes=("activity", "gradients"),
    claims=(
        better("relu", "sigmoid", source="the lecture: sigmoid saturates"),
        better("tanh", "sigmoid", source="the lecture: tanh is zero-centred"),
        better(
            "relu",
            "tanh",
            source="the lecture: tanh saturates, too",
            published=f"+7.0 points (.471, .401), {CAFFENET}",
        ),
        better(
            "relu",
            "linear",
            source="a network without activations is linear",
            published=f"+8.2 points (.471, .389), {CAFFENET}",
        ),
        better(
            "leaky01",
            "relu",
            source="the lecture: leaky ReLU does not die",
            published=f"-0.2 points (.469, .471), {CAFFENET}",
            expected=False,
        ),
        chance_level(
            "depth14.sigmoid",
            share=0.25,
            source="Ioffe and Szegedy 2015, section 4.2.2",
            published="at chance: Inception with sigmoid, ImageNet, one run",
        ),
        interaction(
            {"model.norm.kind": ("none", "batch")},
            {"model.activation": ("relu", "sigmoid")},
            direction="positive",
            source="Ioffe and Szegedy 2015: batch norm rescues sigmoid",
            published="with it 69.8 % top-1, without it chance: Inception, ImageNet, one run",
        ),
    ),
)
