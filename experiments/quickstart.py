"""The first study: activation x batch norm on LeNet-5, on the digits that come with scikit-learn.

python -m launch.sweep --experiment=quickstart --workdir=runs/quickstart
"""

from cnnjax.ablation.claims import better, chance_level, equivalent, interaction
from cnnjax.ablation.design import crossed
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="quickstart",
    question="Does batch norm rescue saturating activations in LeNet-5?",
    lecture="Sigmoid saturates, is not zero-centred and kills gradients; batch normalisation keeps "
    "the inputs of the activation in the range where it has a slope.",
    published="Ioffe and Szegedy 2015, section 4.2.2: an Inception with sigmoid reaches 69.8 % on "
    "ImageNet with batch norm and stays at chance without.",
    expected="sigmoid far below relu without batch norm and level with it; tanh and relu change "
    "little.",
    notes="He's initialisation, which suits relu, is the same in all arms. The gradient of a "
    "sigmoid is at most 1/4, so without normalisation the first layers hardly move in the few "
    "steps that a short run has.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "digits",
        "data.image_size": 32,
        "training.batch_size": 64,
        "training.epochs": 6,
        "optimizer.learning_rate": 0.02,
        "evaluation.every_epochs": 1,
    },
    arms=crossed(
        {
            "model.activation": {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"},
            "model.norm.kind": {"": "none", "bn": "batch"},
        }
    ),
    seeds=range(8),
    claims=(
        better("sigmoid_bn", "sigmoid", by=5, source="Ioffe and Szegedy 2015, section 4.2.2"),
        better("relu", "sigmoid", source="the lecture: sigmoid saturates, is not zero-centred"),
        better("tanh", "sigmoid", source="the lecture: tanh is zero-centred"),
        equivalent(
            "relu_bn",
            "sigmoid_bn",
            within=2,
            reason="3 of the 135 validation images",
            source="with batch norm the activation should matter little",
        ),
        interaction(
            {"model.norm.kind": ("none", "batch")},
            {"model.activation": ("relu", "sigmoid")},
            direction="positive",
            source="the question of this study",
        ),
        chance_level("sigmoid", source="Ioffe and Szegedy 2015: chance without batch norm"),
    ),
)
