"""A perceptron and a convolutional network: examples needed, and images that are moved.

    python -m launch.sweep --experiment=mlp_and_cnn --workdir=runs/mlp_and_cnn --data_dir=DIR

Full size: --set training.steps=20000.
"""

from cnnjax.ablation.claims import better, interaction
from cnnjax.ablation.design import crossed
from cnnjax.ablation.experiment import Experiment

SIZES = (300, 1000, 10000)

EXPERIMENT = Experiment(
    name="mlp_and_cnn",
    question="What does a convolutional network have over a perceptron: fewer examples, and images "
    "that may move?",
    lecture="An MLP learns the same feature again at every place; a convolution shares it.",
    published="LeCun et al. 1998, figure 9: 2-layer perceptrons 3.05 to 4.5 % on MNIST, LeNet-5 "
    "0.95 %.",
    expected="the convolutional network ahead everywhere, by more where images are moved.",
    notes="Both see centred digits in training; shift_k is the accuracy on images moved by k "
    "pixels, the mean of right and down. Every arm takes the same number of steps.",
    base={
        "data.name": "mnist",
        "training.batch_size": 50,
        "training.steps": 1500,
        "evaluation.every_epochs": 100,
        "optimizer.learning_rate": 0.02,
    },
    arms=crossed(
        {
            "model.name": {"mlp": "mlp", "cnn": "lenet5_modern"},
            "data.train_examples": {f"n{size}": size for size in SIZES},
        }
    ),
    seeds=range(5),
    probes=("shift",),
    claims=(
        *(better(f"cnn_n{n}", f"mlp_n{n}", source="the lecture: sharing features") for n in SIZES),
        *(
            better(
                "cnn_n10000",
                "mlp_n10000",
                by=5,
                metric=f"measures.shift_{pixels}",
                reason="more than the gap on centred digits",
                source="the lecture: the same feature again at every place",
            )
            for pixels in (2, 4)
        ),
        interaction(
            {"model.name": ("mlp", "lenet5_modern")},
            {"data.train_examples": (10000, 300)},
            direction="positive",
            source="fewer weights need fewer examples",
        ),
    ),
)
