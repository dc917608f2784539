"""Dropout against the size of the training set.

python -m launch.sweep --experiment=dropout --workdir=runs/dropout
"""

from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

KEEP_PROBS = (1.0, 0.8, 0.5)
SIZES = (100, 300, 1000)

EXPERIMENT = Experiment(
    name="dropout",
    question="Does dropout help, and does it help more where data is scarce?",
    deck="Keep a unit with probability p in training, multiply by p at test time: like an "
    "ensemble of exponentially many networks; a regulariser.",
    published="Srivastava et al. 2014: MNIST 1.60 % without, 1.25 % with; the gain grows, then "
    "shrinks with the size of the training set (their section 7.4). caffenet-benchmark: dropout "
    "rate .5 -> .471, .3 -> .497, .2 -> .494 without batch norm.",
    expected="a gain at the smaller sizes, none or a loss at the largest.",
    notes="The subsets are nested, drawn per seed and the same for all arms of a seed. The number "
    "of epochs is the same, so the smaller sets get fewer steps. In resnet20 dropout stands "
    "between the two convolutions of a block, elsewhere after the hidden dense layers.",
    base={
        "data.name": "digits",
        "data.image_size": 32,
        "training.batch_size": 50,
        "training.epochs": 20,
        "evaluation.every_epochs": 5,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {name: {"model.name": name} for name in ("lenet5_modern", "vgg_small", "resnet20")},
        {
            f"keep{keep}_n{size}": {"model.dropout.keep_prob": keep, "data.train_examples": size}
            for size in SIZES
            for keep in KEEP_PROBS
        },
    ),
    seeds=range(6),
)
