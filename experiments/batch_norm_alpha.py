"""The running averages of batch norm: how fast, and from how large a batch.

    python -m launch.sweep --experiment=batch_norm_alpha --workdir=runs/alpha --data_dir=DIR

Full size: --set training.epochs=20 --set data.train_examples=null.
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.design import crossed
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="batch_norm_alpha",
    question="How fast should the running averages of batch norm move, and does it hang on the "
    "batch size?",
    lecture="running mean = alpha * batch mean + (1 - alpha) * running mean.",
    published="Ioffe and Szegedy 2015 leave alpha open. Frameworks: 0.01 (TensorFlow, Keras), 0.1 "
    "(PyTorch). Small batches estimate badly: Wu and He 2018, figure 1.",
    expected="alpha matters for small batches, where a large one makes the averages noisy; 0.001 "
    "has not caught up by the end of a short training.",
    notes="alpha has the lecture's meaning: the weight of the new batch (1 - momentum elsewhere).",
    base={
        "model.name": "lenet5_modern",
        "model.norm.kind": "batch",
        "data.name": "fashion_mnist",
        "data.train_examples": 10000,
        "training.epochs": 2,
        "optimizer.learning_rate": 0.02,
    },
    arms=crossed(
        {
            "training.batch_size": {"b8": 8, "b64": 64},
            "model.norm.alpha": {"a10": 0.1, "a1": 0.01, "a50": 0.5, "a01": 0.001},
        }
    ),
    seeds=range(6),
    claims=(
        equivalent(
            "b64_a10",
            "b64_a1",
            within=1,
            reason="less than the batch size makes",
            source="frameworks differ in it, and nobody minds",
        ),
        better("b8_a1", "b8_a50", source="averages over 100 small batches, or over 2"),
        better("b64_a10", "b64_a01", source="averages that have not caught up"),
        better("b64_a10", "b64_a50", source="averages over 10 batches, or over 2", expected=False),
    ),
)
