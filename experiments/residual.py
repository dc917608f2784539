"""Plain and residual networks, deeper and deeper.

    python -m launch.sweep --experiment=residual --workdir=runs/residual --data_dir=DIR

Full size: --set training.steps=64000 --set data.image_size=32 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better, monotone
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="residual",
    question="Do shortcuts let deeper networks train?",
    lecture="Residual connections let networks of over a hundred layers train; plain ones get "
    "worse.",
    published="He et al. 2015, figure 6: on CIFAR-10 plain nets get worse from 20 to 56 layers, "
    "residual ones better (8.75 to 6.97 % error).",
    expected="plain56 far below plain20; in so short a training deeper residual nets are not yet "
    "better.",
    notes="Images of 16 x 16 pixels and a few hundred steps: what is seen is how well they train, "
    "not where they end.",
    base={
        "data.name": "cifar10",
        "data.image_size": 16,
        "data.train_examples": 10000,
        "data.augmentation.flip": 0.5,
        "training.batch_size": 64,
        "training.steps": 400,
        "optimizer.learning_rate": 0.05,
    },
    arms={
        f"{kind}{depth}": {"model.name": f"{kind}{depth}"}
        for depth in (8, 20, 56)
        for kind in ("plain", "resnet")
    },
    seeds=range(5),
    probes=("gradients",),
    claims=(
        better("resnet56", "plain56", by=5, source="He et al. 2015, figure 6"),
        better(
            "plain20",
            "plain56",
            source="He et al. 2015, figure 6: plain nets get worse",
            published="plain nets get worse with depth: CIFAR-10, 64,000 steps",
        ),
        better("resnet20", "plain20", source="He et al. 2015: little between them", expected=False),
        monotone(
            ("resnet8", "resnet20", "resnet56"),
            source="He et al. 2015, table 6: deeper is better",
            published="20 to 56 layers +1.78 points (8.75, 6.97 % error): CIFAR-10, 64,000 steps",
            expected=False,
        ),
    ),
)
