"""Dropout against the size of the training set, with and without batch norm.

    python -m launch.sweep --experiment=dropout --workdir=runs/dropout --data_dir=DIR

Full size: --set training.steps=20000.
"""

from cnnjax.ablation.claims import better, interaction
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="dropout",
    question="Does dropout help, does it help more where data is scarce, and beside batch norm?",
    lecture="Keep a unit with probability p in training, multiply by p at test time: like an "
    "ensemble of exponentially many networks; a regulariser. Use batch norm or dropout.",
    published="Srivastava et al. 2014: MNIST 1.60 % without, 1.25 % with; the gain grows, then "
    "shrinks with the size of the training set (their section 7.4). caffenet-benchmark: dropout "
    "rate .5 -> .471, .3 -> .497, .2 -> .494 without batch norm; with it .5 -> .499, .2 -> .527, "
    "0 -> .513.",
    expected="a gain at the smaller size, little at the larger; less of it beside batch norm.",
    notes="The subsets are nested, drawn per seed and the same for all arms of a seed. The same "
    "number of steps for all.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "fashion_mnist",
        "training.batch_size": 50,
        "training.steps": 1500,
        "evaluation.every_epochs": 20,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {f"n{size}": {"data.train_examples": size} for size in (300, 3000)},
        crossed(
            {
                "model.dropout.keep_prob": {"keep100": 1.0, "keep80": 0.8, "keep50": 0.5},
                "model.norm.kind": {"": "none", "bn": "batch"},
            }
        ),
    ),
    seeds=range(6),
    claims=(
        better("n300.keep50", "n300.keep100", source="Srivastava et al. 2014, section 7.4"),
        better(
            "n3000.keep50",
            "n3000.keep100",
            source="Srivastava et al. 2014, table 2",
            published="+0.35 points (1.60, 1.25 % error): MNIST, whole, fully connected, ReLU",
        ),
        better(
            "keep50_bn",
            "keep100_bn",
            source="the lecture: batch norm or dropout",
            published="-1.4 points (.499, .513), caffenet-benchmark, one run each",
            expected=False,
        ),
        interaction(
            {"model.dropout.keep_prob": (1.0, 0.5)},
            {"model.norm.kind": ("none", "batch")},
            direction="negative",
            source="the lecture: batch norm or dropout",
        ),
    ),
)
