"""Classic and inverted dropout, and the average that weight scaling stands for.

    python -m launch.sweep --experiment=dropout_forms --workdir=runs/dropout_forms --data_dir=DIR

Full size: --set training.steps=20000 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="dropout_forms",
    question="Is scaling in training the same as scaling at test time, and how close do both come "
    "to the average over networks?",
    lecture="At test time multiply by p; like an ensemble of exponentially many networks.",
    published="Srivastava et al. 2014, section 7.5 and figure 11: weight scaling is as good as the "
    "average of about 50 sampled networks.",
    expected="classic and inverted alike; the average over 16 passes as good as weight scaling.",
    notes="monte_carlo_gain: accuracy of the mean of 16 passes with dropout at work, minus that "
    "of the pass with scaled weights. classic scales activations by p at test time; its units "
    "are smaller in training, which acts like a smaller rate.",
    base={
        "model.name": "lenet5_modern",
        "data.name": "fashion_mnist",
        "data.train_examples": 3000,
        "training.batch_size": 50,
        "training.steps": 1500,
        "evaluation.every_epochs": 10,
        "optimizer.learning_rate": 0.02,
    },
    arms={
        "none": {"model.dropout.keep_prob": 1.0},
        "inverted": {"model.dropout.keep_prob": 0.5},
        "classic": {"model.dropout.keep_prob": 0.5, "model.dropout.scaling": "classic"},
    },
    seeds=range(8),
    probes=("mc_dropout",),
    claims=(
        equivalent(
            "inverted",
            "classic",
            within=1,
            reason="as much as dropout itself is expected to gain",
            source="the two forms have the same expectation",
        ),
        better("inverted", "none", source="Srivastava et al. 2014"),
        equivalent(
            "inverted",
            "none",
            within=0.5,
            metric="measures.monte_carlo_gain",
            reason="half of what is expected of dropout; without dropout the gain is 0",
            source="Srivastava et al. 2014, figure 11",
        ),
    ),
)
