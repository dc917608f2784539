"""Runs of segmentation and localization through the loop: resumed, streamed, with replicas."""

import json

import numpy as np
import pytest

from cnnjax.errors import Stopped, UserError
from cnnjax.train import numerics
from cnnjax.train.session import Session
from common import small, train_alone

SCENES = {"examples": 60, "canvas_size": 16, "smallest": 1.0, "largest": 1.5, "digits": 2}
COMMON = {"data__scenes__" + name: value for name, value in SCENES.items()} | {
    "model__hidden": None,
    "model__norm__kind": "batch",
    "training__batch_size": 12,
    "training__steps": 10,
    "data__augmentation__shift_pixels": 2,
    "data__augmentation__flip": 0.5,
    "data__augmentation__rotation_degrees": 10,
}
TASKS = {
    "segmentation": {
        "data__name": "digit_masks",
        "model__name": "stack",
        "model__depth": 3,
        "model__width": 0.25,
        "model__decoder": "max_unpool",
        "loss__class_weights": "median_frequency",
        "loss__dice_weight": 0.5,
    },
    "localization": {
        "data__name": "digit_boxes",
        "model__name": "resnet8",
        "model__width": 0.25,
        "model__trunk": "separate",
        "loss__box": "giou",
    },
}


def config(task, **changes):
    return small(task=task, **{**COMMON, **TASKS[task], **changes})


def stopping_at(step):
    asked = iter(range(10**6))
    return lambda: "SIGTERM" if next(asked) >= step else ""


@pytest.fixture(scope="module")
def session():
    """Compiles loops as runs of users do, unlike conftest.py: with the older emitters, images that
    are looked up in memory are rounded otherwise than streamed ones."""
    with pytest.MonkeyPatch.context() as patch:
        options = {"xla_cpu_use_fusion_emitters": True}
        patch.setattr(numerics, "compiler_options", lambda *_: options)
        yield Session()


@pytest.fixture(scope="module", params=TASKS)
def finished(request, session, tmp_path_factory):
    """The task, the folder and the result of an uninterrupted run."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, train_alone(session, config(request.param), 1, folder)


def test_its_figures_are_those_of_its_predictions(finished, session):
    task, folder, result = finished
    assert result.status == "finished"
    kept = np.load(folder / "predictions_test.npz")
    examples = session.dataset(config(task), 1).splits["test"]
    if task == "segmentation":
        assert kept["predicted_mask"].dtype == np.uint8
        np.testing.assert_array_equal(kept["mask"], examples.targets["mask"])
        hits = kept["mask"] == kept["predicted_mask"]
        assert result.test.values["pixel_accuracy"] == pytest.approx(hits.mean())
        assert set(kept.files) >= {"outcome_image_iou", "outcome_boundary_f1", "outcome_loss"}
        assert "outcome" not in kept.files  # mIoU is not a mean over images
        images = kept["outcome_image_iou"]
        assert result.test.values["image_iou"] == pytest.approx(images.mean(dtype=np.float64))
    else:
        right = kept["logits"].argmax(-1) == kept["label"]
        assert result.test.values["accuracy"] == pytest.approx(right.mean())
        assert kept["predicted_box"].shape == kept["box"].shape == (15, 4)
        np.testing.assert_array_equal(kept["box"], examples.targets["box"])
    assert result.best_validation.values.keys() >= set(result.chance["test"].values) - {"loss"}


def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(finished, session, tmp_path):
    task, _, result = finished
    with pytest.raises(Stopped):
        train_alone(session, config(task), 1, tmp_path, stop=stopping_at(7))
    again = train_alone(session, config(task), 1, tmp_path)
    assert again.params_digest == result.params_digest
    assert again.test == result.test


def test_streamed_is_in_memory_bit_for_bit(finished, session, tmp_path):
    task, _, result = finished
    streamed = train_alone(session, config(task, data__pipeline="stream"), 1, tmp_path)
    assert streamed.params_digest == result.params_digest
    assert streamed.validation == result.validation


def test_what_is_logged_of_a_step(finished):
    task, folder, _ = finished
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    logged = {"segmentation": {"image_iou"}, "localization": {"accuracy", "mean_iou"}}
    assert first.keys() >= logged[task] | {"loss"}
    assert "boundary_f1" not in first


@pytest.mark.parametrize(
    ("task", "name", "message"),
    [
        ("segmentation", "digits", "'digits' has the targets label, but the task segmentation re"),
        ("localization", "digit_masks", "reads label, box; set task=segmentation; box is in digit"),
        ("classification", "digit_masks", "reads label; set task=segmentation"),
    ],
)
def test_a_data_set_without_the_targets_of_a_task(session, task, name, message):
    changes = {"data__name": name, "model__name": "resnet8", "model__hidden": None}
    with pytest.raises(UserError) as caught:
        session.check(small(task=task, **changes))
    assert message in str(caught.value)
