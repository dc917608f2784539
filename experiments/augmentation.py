"""Kinds of augmentation against the size of the training set; flips on digits as a control.

    python -m launch.sweep --experiment=augmentation --workdir=runs/augmentation --data_dir=DIR

Full size: --set training.steps=20000.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.design import in_blocks
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="augmentation",
    question="Which augmentation helps, how much does it hang on the number of examples, and when "
    "does it hurt?",
    lecture="Flips, rotations, shifts of colour, scaling; augment your data.",
    published="LeCun et al. 1998: distorted training images bring MNIST from 0.95 to 0.8 %. "
    "Shorten and Khoshgoftaar 2019: a flip is not safe on digits.",
    expected="shifts, rotations and scaling help, more with 300 examples than with 3,000; flips "
    "help on clothes and hurt on digits.",
    notes="A flipped digit is another sign or none: the control that must hurt. The same number "
    "of steps for all.",
    base={
        "model.name": "lenet5_modern",
        "training.batch_size": 50,
        "training.steps": 1500,
        "evaluation.every_epochs": 20,
        "optimizer.learning_rate": 0.02,
    },
    arms=in_blocks(
        {
            f"{name}{size}": {"data.name": data, "data.train_examples": size}
            for name, data in (("digits", "mnist"), ("clothes", "fashion_mnist"))
            for size in (300, 3000)
        },
        {
            "none": {},
            "flip": {"data.augmentation.flip": 0.5},
            "shift": {"data.augmentation.shift_pixels": 2},
            "rotate": {"data.augmentation.rotation_degrees": 10.0},
            "scale": {"data.augmentation.scale": 0.1},
        },
    ),
    seeds=range(5),
    claims=(
        better("digits300.none", "digits300.flip", source="a flip changes what a digit means"),
        better("digits3000.none", "digits3000.flip", source="a flip changes what a digit means"),
        better("shift", "none", source="the lecture: augment; LeCun et al. 1998"),
        better("rotate", "none", source="the lecture: augment"),
        better("clothes300.flip", "clothes300.none", source="the lecture: flips"),
        better("clothes3000.flip", "clothes3000.none", source="the lecture: flips"),
    ),
)
