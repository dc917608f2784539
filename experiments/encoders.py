"""An encoder from a classification run, or from scratch, by the number of masks.

    python -m launch.sweep --experiment=scenes --workdir=runs/scenes --arms=resnet8 --seeds=0
    python -m launch.sweep --experiment=encoders --workdir=runs/encoders

The first command trains the classifier whose weights the second starts from.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.experiment import Experiment

WEIGHTS = {
    "transfer.init_from": "runs/scenes/resnet8/seed-0",
    "transfer.reset": ("decoder1", "decoder2", "head"),
}

EXPERIMENT = Experiment(
    name="encoders",
    question="Do masks become worth more if the encoder has learned to classify before?",
    lecture="Transfer learning: keep the features of a trained network where data is scarce.",
    published="Long et al. 2015, section 4.2: a network from scratch is not feasible; all start "
    "from classification weights.",
    expected="A large gain with 50 masks, a small one with 800.",
    notes="The classifier has seen 2,000 other scenes of one digit each, with labels and no masks; "
    "the digits themselves are the same ones. The same number of steps for all.",
    prerequisite="python -m launch.sweep --experiment=scenes --workdir=runs/scenes --arms=resnet8 "
    "--seeds=0",
    base={
        "task": "segmentation",
        "data.name": "digit_masks",
        "data.normalize": "centered",
        "model.name": "resnet8",
        "model.decoder": "bilinear",
        "model.skips": "add",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 32,
        "training.steps": 400,
        "evaluation.every_epochs": 20,
    },
    arms={
        f"{start}_{size}": {"data.train_examples": size, **weights}
        for size in (50, 200, 800)
        for start, weights in {"scratch": {}, "pretrained": WEIGHTS}.items()
    },
    seeds=range(4),
    claims=(
        better(
            "pretrained_50",
            "scratch_50",
            by=3,
            metric="miou",
            source="the lecture: transfer learning where data is scarce",
        ),
        better("pretrained_800", "scratch_800", metric="miou", source="Long et al. 2015"),
    ),
)
