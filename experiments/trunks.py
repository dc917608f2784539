"""Class and box of an object from one network, or from two.

python -m launch.sweep --experiment=trunks --workdir=runs/trunks
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="trunks",
    question="Does localization need a second network?",
    lecture="We will use regression for (x, y, w, h)! Do we need a second network?",
    published="Sermanet et al. 2014 (OverFeat) train the box regression on the features of the "
    "classifier.",
    expected="One trunk does as well as two, at half the parameters and multiply-adds; the weight "
    "of the box's loss trades the class against the box.",
    notes="Scenes of one digit among pieces of others. A box is right at an IoU of 0.5.",
    base={
        "task": "localization",
        "data.name": "digit_boxes",
        "model.name": "resnet8",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 64,
        "training.epochs": 20,
        "loss.box_weight": 1.0,
    },
    arms={
        "shared": {"model.trunk": "shared"},
        "separate": {"model.trunk": "separate"},
        "light_box": {"model.trunk": "shared", "loss.box_weight": 0.1},
        "heavy_box": {"model.trunk": "shared", "loss.box_weight": 10.0},
        "giou": {"model.trunk": "shared", "loss.box": "giou"},
    },
    seeds=range(5),
    claims=(
        equivalent(
            "shared",
            "separate",
            within=3,
            reason="a second network has to bring more than 3 points for twice the cost",
            metric="accuracy_at_iou50",
            source="the lecture: do we need a second network?",
        ),
        better("shared", "separate", metric="parameters", by=1, source="one trunk, not two"),
        better("shared", "separate", metric="train_images_per_second", source="one trunk, not two"),
        better("heavy_box", "light_box", metric="mean_iou", source="the weight is the box's"),
        better(
            "light_box",
            "heavy_box",
            metric="accuracy",
            source="the class shares the trunk with the box",
            expected=False,
        ),
        better("giou", "shared", metric="mean_iou", source="Rezatofighi et al. 2019, table 1"),
    ),
)
