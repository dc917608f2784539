"""Which initialisation trains, at which depth?

    python -m launch.sweep --experiment=initializers --workdir=runs/initializers --data_dir=DIR

Full size: --set training.steps=10000 --set data.image_size=28.
"""

from cnnjax.ablation.claims import better, chance_level, equivalent
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

TESTED_LEVELS = {
    "he": "he_normal",
    "xavier": "xavier_normal",
    "lecun": "lecun_normal",
    "small": "small_normal",
    "orthogonal": "orthogonal",
    "lsuv": "lsuv",
    "zeros": "zeros",
}

EXPERIMENT = Experiment(
    name="initializers",
    question="Which initialisation of the weights lets a plain network train, and how deep?",
    lecture="All zeros: the units of a layer never differ. 0.03 N(0, 1); 1/sqrt(n); Xavier "
    "sqrt(2)/sqrt(n_in + n_out); He sqrt(2)/sqrt(n_in) for ReLU.",
    published="He et al. 2015 (Delving Deep into Rectifiers): a 30-layer net stalls with Xavier "
    "and converges with He, at 14 layers they tie. Mishkin and Matas 2016: LSUV is on par with or "
    "better than He.",
    expected="zeros at chance; at 30 layers he, orthogonal and lsuv train, xavier and the smaller "
    "ones do not; at 4 layers all but zeros are alike.",
    notes="No batch norm, which hides the scale of the weights. Images of 14 x 14 pixels. With "
    "ReLU and all-zero weights the gradients of the hidden layers are exactly zero. Chance level "
    "is claimed of a quarter of the runs: five seeds can show no more beside the other claims.",
    base={
        "model.name": "stack",
        "data.name": "fashion_mnist",
        "data.image_size": 14,
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.steps": 500,
        "evaluation.every_epochs": 1,
        "optimizer.learning_rate": 0.01,
        "optimizer.clip_norm": 5.0,
    },
    arms=in_blocks(
        {f"depth{depth}": {"model.depth": depth} for depth in (4, 14, 30)},
        {name: {"model.initializer": level} for name, level in TESTED_LEVELS.items()},
    ),
    seeds=range(5),
    probes=("activity", "gradients"),
    claims=(
        better(
            "depth30.he",
            "depth30.xavier",
            by=5,
            source="He et al. 2015, figure 3",
            published="He converges, Xavier stalls: 30 layers, ImageNet, one run each",
        ),
        equivalent(
            "depth4.he",
            "depth4.xavier",
            within=2,
            reason="a fifth of what separates the activations here",
            source="He et al. 2015: they tie where the net is not deep",
        ),
        better(
            "depth14.he",
            "depth14.xavier",
            source="He et al. 2015: a tie",
            published="a tie at 14 layers, ImageNet, one run each",
            expected=False,
        ),
        better("he", "small", source="the lecture: small random numbers vanish with depth"),
        equivalent(
            "lsuv",
            "he",
            within=2,
            reason="as above",
            source="Mishkin and Matas 2016: on par with He",
            published="LSUV .499, orthogonal .500 with batch norm after the activation: "
            "caffenet-benchmark, one run each",
        ),
        chance_level("zeros", share=0.25, source="the lecture: with zeros the units never differ"),
        chance_level(
            "depth30.xavier",
            share=0.25,
            source="He et al. 2015: the 30-layer net stalls",
            published="stalls: 30 layers, ImageNet, one run",
        ),
    ),
)
