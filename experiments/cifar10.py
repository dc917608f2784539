"""ResNet-20 on CIFAR-10 with the recipe of He et al. 2015.

    python -m launch.sweep --experiment=cifar10 --workdir=runs/cifar10 --data_dir=DIR

64,000 steps are hours on a laptop's CPU: meant for a GPU. A few steps anywhere:
--set training.steps=20.
"""

from cnnjax.ablation.experiment import Experiment

BATCH = 128
STEPS_PER_EPOCH = 45_000 / BATCH

EXPERIMENT = Experiment(
    name="cifar10",
    question="Does ResNet-20 reach its published error on CIFAR-10, and what do shortcuts add?",
    lecture="Residual connections let networks of over a hundred layers train.",
    published="He et al. 2015, table 6: 8.75 % test error for ResNet-20; the plain 20-layer "
    "network is about as good (figure 6). A public PyTorch re-implementation (akamaster) reports "
    "8.27 %.",
    expected="test error within half a point of 8.75 %; plain20 level or a little worse.",
    notes="45,000 training and 5,000 validation images, as in the paper; rate 0.1, divided by 10 "
    "after 32,000 and 48,000 of 64,000 steps; weight decay 1e-4 on kernels only (the paper: on "
    "all parameters); flips and 4-pixel shifts; per-channel standardisation (the paper: the "
    "per-pixel mean is subtracted).",
    base={
        "model.name": "resnet20",
        "data.name": "cifar10",
        "data.validation_fraction": 0.1,
        "data.augmentation.flip": 0.5,
        "data.augmentation.shift_pixels": 4,
        "training.batch_size": BATCH,
        "training.steps": 64_000,
        "training.log_every_steps": 50,
        "optimizer.name": "momentum",
        "optimizer.learning_rate": 0.1,
        "optimizer.weight_decay": 1e-4,
        "schedule.name": "step",
        "schedule.boundaries_epochs": (32_000 / STEPS_PER_EPOCH, 48_000 / STEPS_PER_EPOCH),
        "schedule.factor": 0.1,
        "evaluation.every_epochs": 5,
    },
    arms={"resnet20": {}, "plain20": {"model.name": "plain20"}},
    seeds=(0, 1, 2),
)
