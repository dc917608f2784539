"""Pooling: accuracy, and how steady the answer is when the image moves.

    python -m launch.sweep --experiment=pooling --workdir=runs/pooling --data_dir=DIR

Full size: --set training.epochs=20 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="pooling",
    question="Which pooling is better, and which keeps the answer when the image moves?",
    lecture="Pooling makes maps smaller and is invariant to translation.",
    published="caffenet-benchmark: max .471, average .435, max+average .483, strided .472. Zhang "
    "2019: blurring before subsampling makes networks more consistent under shifts.",
    expected="max ahead of average by little, blur the most consistent; sum, which is average with "
    "four times the scale, harder to train.",
    notes="Pooling is invariant to shifts only locally; only global pooling is exactly so, and the "
    "stack ends with it. shift_consistency: share of images that keep their class when moved by a "
    "pixel.",
    base={
        "data.name": "fashion_mnist",
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.epochs": 4,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {
            "lenet5_modern": {"model.name": "lenet5_modern"},
            "stack4": {"model.name": "stack", "model.depth": 4},
        },
        {kind: {"model.pooling": kind} for kind in ("max", "average", "sum", "strided", "blur")},
    ),
    seeds=range(6),
    probes=("shift_consistency",),
    claims=(
        better(
            "max",
            "average",
            source="caffenet-benchmark",
            published="+3.6 points (.471, .435), 128-pixel ImageNet, one run each",
        ),
        better("max", "sum", source="average at four times the scale"),
        better("blur", "max", metric="measures.shift_consistency", source="Zhang 2019, figure 5"),
        better(
            "max", "strided", metric="measures.shift_consistency", source="the lecture: invariant"
        ),
    ),
)
