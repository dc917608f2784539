"""The scale of the input: 0..1, minus a half, or standardised.

    python -m launch.sweep --experiment=input_scaling --workdir=runs/input_scaling --data_dir=DIR

Full size: --set training.epochs=20 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="input_scaling",
    question="Does it matter how the pixels are scaled?",
    lecture="Scale the pixels before the network sees them: x / 255 - 0.5.",
    published="LeCun et al. 1998 (Efficient BackProp), section 4.3: inputs of mean zero and equal "
    "variance converge faster.",
    expected="standardised ahead of the others in a short training; nothing between them where "
    "batch norm comes first.",
    notes="none: 0..1. centered: minus 0.5, which is not unit variance.",
    base={
        "data.name": "fashion_mnist",
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.epochs": 2,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {
            "mlp": {"model.name": "mlp"},
            "lenet5_modern": {"model.name": "lenet5_modern"},
            "lenet5_bn": {"model.name": "lenet5_modern", "model.norm.kind": "batch"},
        },
        {level: {"data.normalize": level} for level in ("none", "centered", "standardize")},
    ),
    seeds=range(8),
    claims=(
        better("standardize", "none", source="LeCun et al. 1998, section 4.3"),
        better("centered", "none", source="the lecture"),
        equivalent(
            "lenet5_bn.centered",
            "lenet5_bn.standardize",
            within=1,
            reason="less than seeds differ by",
            source="batch norm takes the scale out",
        ),
    ),
)
