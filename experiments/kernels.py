"""Small convolutions for large ones: what a layer, or an inception block, is made of.

    python -m launch.sweep --experiment=kernels --workdir=runs/kernels --data_dir=DIR

Full size: --set training.steps=10000 --set data.image_size=28 --set model.width=1.
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

LITTLE = "a fifth of what separates activations on this data"

EXPERIMENT = Experiment(
    name="kernels",
    question="Can 5x5 convolutions be two 3x3 ones, or four of 1x3 and 3x1, and may 1x1 "
    "convolutions come first?",
    lecture="5x5 -> two 3x3 (25 -> 18 weights); 3x3 -> 1x3 + 3x1 (9 -> 6); 1x1 convolutions before "
    "the larger ones.",
    published="Simonyan and Zisserman 2015, section 3.1: a shallow net with 5x5 has a 7 % higher "
    "top-1 error than its twin with pairs of 3x3. Szegedy et al. 2015, 2016.",
    expected="the small ones at least as good; a reduced block as good as a naive one.",
    notes="All forms of the stack see the same. Small convolutions also bring more activations. "
    "Batch norm in all arms.",
    base={
        "model.width": 0.5,
        "model.norm.kind": "batch",
        "data.name": "fashion_mnist",
        "data.image_size": 14,
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.steps": 400,
        "optimizer.learning_rate": 0.05,
    },
    arms={
        **in_blocks(
            {"stack": {"model.name": "stack", "model.depth": 5}},
            {
                "one_5x5": {"model.kernel": "5x5"},
                "two_3x3": {"model.kernel": "two_3x3"},
                "four_1x3": {"model.kernel": "two_1x3_3x1"},
            },
        ),
        **in_blocks(
            {"inception": {"model.name": "inception_small"}},
            {form: {"model.inception_block": form} for form in ("naive", "reduced")},
        ),
    },
    seeds=range(8),
    claims=(
        better("two_3x3", "one_5x5", source="Simonyan and Zisserman 2015, section 3.1"),
        equivalent("two_3x3", "one_5x5", within=1, reason=LITTLE, source="the lecture: 25 -> 18"),
        equivalent("four_1x3", "two_3x3", within=1, reason=LITTLE, source="the lecture: 9 -> 6"),
        equivalent("reduced", "naive", within=1, reason=LITTLE, source="the lecture: 1x1 first"),
    ),
)
