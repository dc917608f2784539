"""Augmentation moves masks and boxes as it moves the image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Augmentation
from cnnjax.data import augment, boxes
from cnnjax.data.targets import IGNORE

COUNT = 40
KEYS = jax.random.split(jax.random.key(0), COUNT)
SHAPE = (24, 32, 1)
WHOLE_PIXELS = ({"flip": 0.5}, {"shift_pixels": 6}, {"flip": 0.5, "shift_pixels": 3})
RESAMPLED = (
    {"random_resized_crop": 0.3},
    {"rotation_degrees": 30},
    {"scale": 0.4},
    {"rotation_degrees": 180, "scale": 0.4},
)
ALL = {"random_resized_crop": 0.5, "rotation_degrees": 10, "scale": 0.1, "flip": 0.5,
       "shift_pixels": 2}  # fmt: skip


@functools.cache
def compiled(fields):
    return jax.jit(augment.build(Augmentation(**dict(fields)), SHAPE, (0.5,)))


def run(images, targets, fields):
    images, targets = compiled(tuple(fields.items()))(KEYS, images, targets)
    return np.asarray(images), {name: np.asarray(values) for name, values in targets.items()}


def blocks():
    """Images of 0 and 1 that are constant in blocks of 8 x 8 pixels."""
    small = jax.random.bernoulli(jax.random.key(1), shape=(COUNT, 3, 4, 1))
    return jnp.kron(small, jnp.ones((1, 8, 8, 1)))


def rectangles(margin):
    """Images with a filled rectangle, at least so many pixels from the border, and its box."""
    rng = np.random.default_rng(0)
    images, corners = np.zeros((COUNT, *SHAPE), np.float32), []
    for image in images:
        (y0, y1), (x0, x1) = (
            np.sort(rng.choice(np.arange(margin, side - margin + 1, 4), 2, replace=False))
            for side in SHAPE[:2]
        )
        image[y0:y1, x0:x1] = 1
        corners.append([x0 / SHAPE[1], y0 / SHAPE[0], x1 / SHAPE[1], y1 / SHAPE[0]])
    return images, boxes.from_corners(*np.array(corners, np.float32).T)


@pytest.mark.parametrize("fields", WHOLE_PIXELS)
def test_a_mask_stays_a_function_of_the_image(fields):
    """Exactly, since whole pixels move; beyond the image it is not known."""
    images = blocks().at[:, :, :, 0].add(1).clip(0, 1) / 2 + 0.25  # never black
    images, targets = run(images, {"mask": (images[..., 0] > 0.5).astype(jnp.uint8)}, fields)
    expected = np.where(images[..., 0] == 0, IGNORE, images[..., 0] > 0.5)
    np.testing.assert_array_equal(targets["mask"], expected)
    assert (expected == IGNORE).any() == ("shift_pixels" in fields)


@pytest.mark.parametrize("fields", [*RESAMPLED, ALL])
def test_a_mask_stays_a_function_of_the_image_where_no_pixels_are_mixed(fields):
    """Bilinear interpolation mixes the pixels next to the edges of blocks; wherever it gives 0 or
    1, all pixels around have that value, the nearest among them."""
    images = blocks()
    images, targets = run(images, {"mask": images[..., 0].astype(jnp.uint8)}, fields)
    image, mask = images[..., 0], targets["mask"]
    known = mask != IGNORE
    np.testing.assert_array_equal(mask[image > 0.999], 1)
    np.testing.assert_array_equal(mask[known & (image < 0.001)], 0)
    assert ((image < 0.001) | (image > 0.999)).mean() > 0.5
    assert set(np.unique(mask)) <= {0, 1, IGNORE}
    white, _ = run(jnp.ones((COUNT, *SHAPE)), {}, fields)
    assert known[white[..., 0] > 0.51].all(), "half of the pixel and more lies in the image"
    if len(fields) < len(ALL):  # one resampling
        assert not known[white[..., 0] < 0.24].any()
    assert (~known).any() == ("rotation_degrees" in fields or "scale" in fields)


@pytest.mark.parametrize("fields", [*WHOLE_PIXELS, *RESAMPLED, ALL])
def test_masks_never_gain_classes(fields):
    rng = np.random.default_rng(2)
    masks = rng.choice(np.array([0, 9, 200], np.uint8), (COUNT, *SHAPE[:2]))
    _, targets = run(jnp.zeros((COUNT, *SHAPE)), {"mask": jnp.asarray(masks)}, fields)
    assert targets["mask"].dtype == np.uint8
    assert set(np.unique(targets["mask"])) <= {0, 9, 200, IGNORE}
    assert (targets["mask"] == 9).any()


@pytest.mark.parametrize("fields", [*WHOLE_PIXELS, *RESAMPLED[:3]])
def test_a_box_drawn_into_the_image_is_found_again(fields):
    """A rotated rectangle that is partly outside has a smaller upright box around its visible part
    than its box has: rectangles that are rotated are far from the border."""
    rotated = "rotation_degrees" in fields
    images, box = rectangles(8 if rotated else 0)
    images, targets = run(images, {"box": box}, fields)
    assert targets["box"].dtype == np.float32
    cut = 0
    for image, box in zip(images[..., 0], targets["box"], strict=True):
        drawn = image > (0.25 if rotated else 0.5)
        edges = np.array(boxes.to_corners(box)) * [32, 24, 32, 24]
        if drawn.any():
            rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
            found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            np.testing.assert_allclose(edges, found, atol=1.0001)
        else:
            cut += 1
            assert not box.any() or min(edges[2:] - edges[:2]) <= 1
    assert cut < COUNT / 4


def test_a_box_contains_what_is_visible_under_all_augmentations():
    images, box = rectangles(0)
    images, targets = run(images, {"box": box}, ALL)
    for image, box in zip(images[..., 0], targets["box"], strict=True):
        rows, columns = np.nonzero(image > 0.5)
        left, top, right, bottom = np.array(boxes.to_corners(box)) * [32, 24, 32, 24]
        if len(rows):
            assert left <= columns.min() + 1
            assert columns.max() <= right
            assert top <= rows.min() + 1
            assert rows.max() <= bottom


def test_a_box_that_is_cut_away_is_zero():
    box = boxes.from_corners(*np.array([[0, 0, 1 / 32, 1 / 24]] * COUNT, np.float32).T)
    _, targets = run(jnp.zeros((COUNT, *SHAPE)), {"box": box}, {"shift_pixels": 6})
    gone = ~targets["box"].any(-1)
    assert 0 < gone.sum() < COUNT
    np.testing.assert_allclose(targets["box"][~gone, 2:], box[~gone, 2:], rtol=1e-5)
    empty = jnp.zeros((COUNT, 4))
    for fields in (*WHOLE_PIXELS, *RESAMPLED, ALL):
        assert not run(jnp.zeros((COUNT, *SHAPE)), {"box": empty}, fields)[1]["box"].any()


def test_images_and_labels_do_not_depend_on_masks_and_boxes():
    images, box = rectangles(0)
    labels = jnp.arange(COUNT)
    alone, _ = run(images, {"label": labels}, ALL)
    mask = jnp.asarray(images[..., 0], jnp.uint8)
    together, targets = run(images, {"label": labels, "mask": mask, "box": box}, ALL)
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_array_equal(targets["label"], labels)


@pytest.mark.parametrize("fields", [{"color": 0.5}, {"cutout_pixels": 8}])
def test_colour_and_cutout_leave_targets_alone(fields):
    images, box = rectangles(0)
    before = {"mask": images[..., 0].astype(np.uint8), "box": box}
    changed, after = run(images, before, fields)
    assert not np.array_equal(changed, images)
    np.testing.assert_array_equal(after["mask"], before["mask"])
    np.testing.assert_array_equal(after["box"], before["box"])


def test_the_moves_by_hand():
    mask = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3)
    box = jnp.array([0.25, 0.5, 0.5, 1.0])
    assert augment._flip(jnp.array(True), mask).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert augment._flip_box(jnp.array(True), box).tolist() == [0.75, 0.5, 0.5, 1]
    moved = augment._shift(1, IGNORE, jnp.array([0, 2]), mask)
    assert moved.tolist() == [[IGNORE] * 3, [1, 2, IGNORE]]
    size = np.array([3, 2])
    np.testing.assert_allclose(
        augment._shift_box(1, size, jnp.array([0, 2]), box), [0.25 - 1 / 3, 1, 0.5, 1], rtol=1e-6
    )
    half = (jnp.array([0.5, 2 / 3]), jnp.array([1.0, 1.0]))  # the lower row, columns 1 and 2
    assert augment._crop_mask(half, mask).tolist() == [[4, 5, 5], [4, 5, 5]]
    part = boxes.clip(augment._crop_box(size, half, box))
    np.testing.assert_allclose(part, [0.125, 0.5, 0.25, 1], atol=1e-6)
    quarter_turn = jnp.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    square = jnp.arange(9, dtype=jnp.uint8).reshape(3, 3)
    np.testing.assert_array_equal(augment._warp_mask(quarter_turn, square), np.rot90(square))
    turned = augment._warp_box(np.array([3, 3]), quarter_turn, jnp.array([0.2, 0.3, 0.4, 0.2]))
    np.testing.assert_allclose(turned, [0.3, 0.8, 0.2, 0.4], rtol=1e-5)
