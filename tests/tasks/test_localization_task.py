"""Loss and metrics of localization, against hand-computed values and torchvision's formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax.data import boxes
from cnnjax.tasks import localization
from cnnjax.tasks.task import Task

LEFT = np.array([0.25, 0.5, 0.5, 1.0], np.float32)  # the left half of the image
RIGHT = np.array([0.75, 0.5, 0.5, 1.0], np.float32)
TOP_LEFT = np.array([0.25, 0.25, 0.5, 0.5], np.float32)


def test_iou_by_hand():
    assert float(localization.iou(LEFT, LEFT)) == pytest.approx(1)
    assert float(localization.iou(LEFT, RIGHT)) == pytest.approx(0)
    assert float(localization.iou(LEFT, TOP_LEFT)) == pytest.approx(0.5)
    middle = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
    assert float(localization.iou(LEFT, middle)) == pytest.approx(0.25 / 0.75)
    assert float(localization.iou(np.zeros(4, np.float32), np.zeros(4, np.float32))) == 0


def generalized(first, second):
    """torchvision's generalized_box_iou_loss with corners, for one pair, written out."""
    x1, y1, x2, y2 = boxes.to_corners(first)
    x1g, y1g, x2g, y2g = boxes.to_corners(second)
    overlap = max(0, min(x2, x2g) - max(x1, x1g)) * max(0, min(y2, y2g) - max(y1, y1g))
    union = (x2 - x1) * (y2 - y1) + (x2g - x1g) * (y2g - y1g) - overlap
    area = (max(x2, x2g) - min(x1, x1g)) * (max(y2, y2g) - min(y1, y1g))
    return overlap / union - (area - union) / area


def test_giou_is_that_of_torchvision():
    rng = np.random.default_rng(0)
    centres, sizes = rng.uniform(0.3, 0.7, (2, 20, 2)), rng.uniform(0.1, 0.5, (2, 20, 2))
    pairs = np.concatenate([centres, sizes], -1).astype(np.float32)
    expected = [generalized(a, b) for a, b in zip(*pairs, strict=True)]
    np.testing.assert_allclose(localization.giou(*map(jnp.asarray, pairs)), expected, atol=1e-6)
    assert float(localization.giou(LEFT, RIGHT)) == pytest.approx(0)  # they fill the hull
    third = np.array([0.05, 0.5, 0.1, 1.0], np.float32)
    assert float(localization.giou(third, RIGHT)) == pytest.approx(-0.4)


def test_smooth_l1_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    first, second = rng.uniform(0, 1, (2, 6, 4)).astype(np.float32)
    expected = torch.nn.functional.smooth_l1_loss(
        torch.tensor(first), torch.tensor(second), reduction="none", beta=localization.BETA
    ).sum(-1)
    np.testing.assert_allclose(localization.smooth_l1(first, second), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", localization.BOX_LOSSES)
def test_gradients(kind):
    outputs = {"label": jnp.array([[0.2, -0.1, 0.4]]), "box": jnp.array([[0.3, -0.2, 0.1, -0.4]])}
    targets = {"label": np.array([1]), "box": TOP_LEFT[None]}

    def loss(outputs):
        return localization.loss(outputs, targets, 0.1, box=kind, box_weight=2.0).sum()

    with jax.enable_x64():
        check_grads(loss, (jax.tree.map(lambda x: x.astype("float64"), outputs),), 1, ["rev"])


def test_an_object_that_is_not_visible_counts_in_no_box_loss():
    outputs = {"label": jnp.zeros((2, 3)), "box": jnp.ones((2, 4))}
    targets = {"label": np.array([0, 0]), "box": np.stack([TOP_LEFT, np.zeros(4, np.float32)])}
    seen, unseen = localization.loss(outputs, targets)
    assert float(unseen) == pytest.approx(np.log(3))
    assert float(seen) > float(unseen)


def logit(box):
    return jnp.log(jnp.asarray(box) / (1 - jnp.asarray(box)))


def test_right_needs_both_the_class_and_the_box():
    middle = np.array([0.5, 0.5, 0.5, 0.999], np.float32)
    outputs = {
        "label": 10 * jax.nn.one_hot(jnp.array([0, 0, 1]), 2),
        "box": logit(np.clip(np.stack([LEFT, middle, LEFT]), 0.001, 0.999)),
    }
    targets = {"label": np.array([0, 0, 0]), "box": np.stack([LEFT] * 3)}
    values = localization.statistics(outputs, targets)
    np.testing.assert_array_equal(values["accuracy"], [1, 1, 0])
    np.testing.assert_array_equal(values["accuracy_at_iou50"], [1, 0, 0])
    np.testing.assert_allclose(values["mean_iou"], [1, 1 / 3, 1], atol=0.01)


def test_heads_are_kept_under_other_names_than_the_targets():
    task = dataclasses.replace(localization.TASK, predictions=Task.predictions)
    outputs = {"label": jnp.zeros((1, 3)), "box": jnp.zeros((1, 4))}
    assert task.predictions(outputs).keys() == {"outputs_label", "outputs_box"}


def test_the_constant_prediction():
    targets = {
        "label": np.array([0, 0, 1, 0]),
        "box": np.stack([LEFT, LEFT, LEFT, RIGHT]),
    }
    constant = localization.constant(targets)
    assert constant["accuracy"] == 0.75
    assert constant["accuracy_at_iou50"] == 0.5
    assert constant["mean_iou"] == pytest.approx(0.75)
    assert np.isfinite(constant["loss"])
