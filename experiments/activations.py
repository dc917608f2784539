"""Which activation?

python -m launch.sweep --experiment=activations --workdir=runs/activations
"""

from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

LEVELS_ASKED = ("relu", "sigmoid", "tanh", "leaky_relu", "prelu", "elu", "gelu", "silu", "identity")

EXPERIMENT = Experiment(
    name="activations",
    question="Which activation makes a convolutional network better?",
    deck="Sigmoid saturates and is not zero-centred; tanh is zero-centred but saturates; ReLU is "
    "fast and does not vanish for x > 0 but can die; leaky ReLU does not die (a != 1).",
    published="ducha-aiki/caffenet-benchmark, 128-px ImageNet, top-1, single runs: ReLU .471, "
    "tanh .401, leaky .469, PReLU .485, ELU .488, none .389.",
    expected="relu and its relatives ahead of tanh, tanh ahead of sigmoid, identity last.",
    notes="Each architecture keeps its published normalisation: none in lenet5_modern, batch norm "
    "in vgg_small and resnet20. He's initialisation in all arms.",
    base={
        "data.name": "digits",
        "data.image_size": 32,
        "training.batch_size": 64,
        "training.epochs": 10,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {name: {"model.name": name} for name in ("lenet5_modern", "vgg_small", "resnet20")},
        {level: {"model.activation": level} for level in LEVELS_ASKED},
    ),
    seeds=range(6),
)
