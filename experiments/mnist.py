"""The reference recipe for MNIST.

python -m launch.sweep --experiment=mnist --workdir=runs/mnist --data_dir=DIR
"""

from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="mnist",
    question="How well does LeNet-5 with today's ingredients do on MNIST?",
    lecture="LeNet-5 (1998) was the first convolutional network of wide use.",
    published="LeCun et al. 1998: test error 0.95 %, 0.8 % with distorted training images.",
    expected="below 1 % test error; shifted training images help a little.",
    notes="ReLU, max pooling and dense C3 in place of the 1998 ingredients (61,706 parameters). "
    "The control arm leaves the random shifts out.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "mnist",
        "data.augmentation.shift_pixels": 2,
        "training.batch_size": 128,
        "training.epochs": 10,
        "optimizer.name": "momentum",
        "optimizer.learning_rate": 0.05,
        "optimizer.weight_decay": 5e-4,
        "schedule.name": "cosine",
        "schedule.warmup_epochs": 0.5,
    },
    arms={"recipe": {}, "no_shift": {"data.augmentation.shift_pixels": 0}},
    seeds=(0, 1, 2),
)
