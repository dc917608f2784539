"""Which initialisation of the weights trains?

python -m launch.sweep --experiment=initializers --workdir=runs/initializers
"""

from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

LEVELS_ASKED = (
    "he_normal",
    "xavier_normal",
    "lecun_normal",
    "small_normal",
    "orthogonal",
    "lsuv",
    "zeros",
)

EXPERIMENT = Experiment(
    name="initializers",
    question="Which initialisation of the weights lets a network without batch norm train?",
    deck="All zeros: the units of a layer never differ. 0.03 N(0, 1); 1/sqrt(n); Xavier "
    "sqrt(2)/sqrt(n_in + n_out); He sqrt(2)/sqrt(n_in) for ReLU.",
    published="He et al. 2015 (Delving Deep into Rectifiers): a 30-layer net stalls with Xavier "
    "and converges with He, at 14 layers they tie. Mishkin and Matas 2016: LSUV is on par with or "
    "better than He.",
    expected="zeros at chance; he_normal, orthogonal and lsuv ahead of small_normal; the deeper "
    "the network the larger the gap.",
    notes="Batch norm is off in all arms, because it hides the scale of the weights; resnet20 "
    "without it is the two-layer residual block with biases. With ReLU and all-zero weights the "
    "gradients of the hidden layers are exactly zero.",
    base={
        "model.norm.kind": "none",
        "data.name": "digits",
        "data.image_size": 32,
        "training.batch_size": 64,
        "training.epochs": 10,
        "optimizer.learning_rate": 0.01,
        "optimizer.clip_norm": 5.0,
    },
    arms=in_blocks(
        {name: {"model.name": name} for name in ("lenet5_modern", "vgg_small", "resnet20")},
        {level: {"model.initializer": level} for level in LEVELS_ASKED},
    ),
    seeds=range(6),
)
