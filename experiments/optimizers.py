"""Optimizers and schedules, each with its own learning rate.

    python -m launch.sweep --experiment=optimizers --workdir=runs/optimizers --data_dir=DIR

Full size: --set training.epochs=20 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.design import crossed
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.ablation.tuning import log_range

EXPERIMENT = Experiment(
    name="optimizers",
    question="Which optimizer and which schedule train a small network best, once each has its own "
    "learning rate?",
    lecture="AlexNet: momentum. Inception v3: RMSProp.",
    published="Choi et al. 2019, On Empirical Comparisons of Optimizers: tuned well enough, a more "
    "general optimizer is never worse. Schmidt et al. 2021: no clear winner.",
    expected="momentum, rmsprop and adam alike; plain gradient descent behind; a falling rate "
    "ahead of a constant one.",
    notes="The rate of every arm is the best of the same grid on the validation split, with seeds "
    "of its own.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "fashion_mnist",
        "data.train_examples": 10000,
        "training.batch_size": 64,
        "training.epochs": 3,
    },
    arms=crossed(
        {
            "optimizer.name": {name: name for name in ("momentum", "sgd", "rmsprop", "adam")},
            "schedule.name": {"cosine": "cosine", "constant": "constant"},
        }
    ),
    tune=Tune({"optimizer.learning_rate": log_range(0.0003, 0.3, 7)}),
    seeds=range(6),
    claims=(
        better("momentum_cosine", "sgd_cosine", source="the lecture: AlexNet used momentum"),
        better({"schedule.name": "cosine"}, {"schedule.name": "constant"}, source="usual"),
        equivalent(
            "adam_cosine",
            "momentum_cosine",
            within=1,
            reason="less than the schedule is expected to make",
            source="Choi et al. 2019",
        ),
        equivalent(
            "rmsprop_cosine",
            "momentum_cosine",
            within=1,
            reason="less than the schedule is expected to make",
            source="the lecture: Inception v3 used RMSProp",
        ),
    ),
)
