import functools

import augmax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Augmentation
from cnnjax.data import augment

BATCH = 6
KEYS = jax.random.split(jax.random.key(0), BATCH)
IMAGES = jax.random.uniform(jax.random.key(1), (BATCH, 8, 10, 3))


@functools.cache
def compiled(shape, mean, fields):
    return jax.jit(augment.build(Augmentation(**dict(fields)), shape, mean))


def run(images=IMAGES, keys=KEYS, mean=None, **fields):
    function = compiled(images.shape[1:], mean, tuple(fields.items()))
    return np.asarray(function(keys, images))


def test_all_off_is_the_identity():
    function = augment.build(Augmentation(), (8, 10, 3))
    assert function(KEYS, IMAGES) is IMAGES


def test_flip_mirrors_left_and_right():
    np.testing.assert_array_equal(run(flip=1.0), IMAGES[:, :, ::-1])
    keys = jax.random.split(jax.random.key(2), 400)
    marked = jnp.tile(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (400, 1, 1, 1))
    share = run(marked, keys, flip=0.3)[:, 0, 0, 0].mean()
    assert 0.2 < share < 0.4


def test_augmax_turns_counterclockwise_and_flips():
    image = jnp.arange(36.0).reshape(6, 6, 1) / 36
    turned = augmax.Rotate((90, 90))(KEYS[0], image)
    np.testing.assert_allclose(turned, np.rot90(image), atol=1e-6)
    np.testing.assert_allclose(
        augmax.HorizontalFlip(1.0)(KEYS[0], image), image[:, ::-1], atol=1e-6
    )


def test_rotation_varies_and_keeps_the_centre():
    images = jnp.zeros((BATCH, 9, 9, 1)).at[:, 4, 4].set(1).at[:, 4, 8].set(1)
    turned = run(images, rotation_degrees=90)
    np.testing.assert_allclose(turned[:, 4, 4], 1, atol=1e-5)
    ends = turned.copy()
    ends[:, 3:6, 3:6] = 0
    heights = (ends.sum((2, 3)) * np.arange(9)).sum(1) / ends.sum((1, 2, 3))
    assert heights.std() > 0.5
    columns = (ends.sum((1, 3)) * np.arange(9)).sum(1) / ends.sum((1, 2, 3))
    assert columns.min() > 3.5, "at most 90 degrees either way from the right"


def test_zoom_goes_both_ways_about_the_centre():
    keys = jax.random.split(jax.random.key(3), 50)
    square = jnp.zeros((50, 17, 17, 1)).at[:, 5:12, 5:12].set(1)
    areas = run(square, keys, scale=0.4).sum((1, 2, 3))
    assert areas.min() < 49 * 0.7
    assert areas.max() > 49 * 1.4
    assert (areas > 49 * 0.6**2 * 0.9).all()
    assert (areas < 49 * 1.4**2 * 1.1).all()
    np.testing.assert_allclose(run(square[:9], keys[:9], scale=0.4)[:, 8, 8, 0], 1, atol=1e-5)


def test_shift_moves_whole_pixels_over_black():
    keys = jax.random.split(jax.random.key(4), 60)
    images = jnp.tile(IMAGES[:1] + 0.01, (60, 1, 1, 1)).clip(0, 1)
    shifted = run(images, keys, shift_pixels=2)
    padded = np.pad(np.asarray(images[0]), ((2, 2), (2, 2), (0, 0)))
    crops = {padded[y : y + 8, x : x + 10].tobytes(): (y, x) for y in range(5) for x in range(5)}
    seen = {crops[image.tobytes()] for image in shifted}
    assert len(seen) > 15
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_cutout_hides_a_square_with_the_mean():
    keys = jax.random.split(jax.random.key(5), 80)
    images = jnp.ones((80, 8, 10, 3))
    cut = run(images, keys, mean=(0.1, 0.2, 0.3), cutout_pixels=3)
    hidden = cut[..., 0] != 1
    counts = hidden.sum((1, 2))
    assert counts.max() == 9
    assert counts.min() >= 4
    assert hidden.any(0).all(), "every place can be hidden"
    np.testing.assert_allclose(cut[hidden][0], [0.1, 0.2, 0.3], rtol=1e-6)
    own = run(cutout_pixels=3)
    first = own[0] != np.asarray(IMAGES[0])
    expected = np.asarray(IMAGES[0]).mean((0, 1))
    np.testing.assert_allclose(own[0][first.any(-1)][0], expected, rtol=1e-5)


def test_random_resized_crop_shows_a_part_at_full_size():
    y, x = jnp.meshgrid(jnp.linspace(0, 1, 16), jnp.linspace(0, 1, 16), indexing="ij")
    ramps = jnp.tile(jnp.stack([y, x], -1)[None], (BATCH, 1, 1, 1))
    cropped = run(ramps, random_resized_crop=0.25)
    spans = cropped.max((1, 2)) - cropped.min((1, 2))
    areas = spans.prod(-1)
    assert (areas > 0.15).all()
    assert areas.std() > 0.05
    assert (np.diff(cropped[..., 0], axis=1) >= -1e-6).all(), "not turned or flipped"
    assert cropped.min(axis=(1, 2)).std() > 0.02


def test_colour_changes_every_channel_of_every_image_and_stays_in_range():
    colored = run(color=1.0)
    assert ((colored >= 0) & (colored <= 1)).all()
    assert (np.abs(colored - IMAGES).mean((1, 2, 3)) > 0.01).all()
    nearly = run(color=1e-4)
    np.testing.assert_allclose(nearly, IMAGES, atol=2e-3)
    grey = jnp.full((BATCH, 8, 10, 3), 0.5)
    same = run(grey, color=1.0)
    np.testing.assert_allclose(same, same[..., :1].repeat(3, -1), atol=1e-6)


def test_colour_of_grey_images_is_brightness_and_contrast():
    grey = IMAGES[..., :1]
    colored = run(grey, color=0.5)
    assert ((colored >= 0) & (colored <= 1)).all()
    assert (np.abs(colored - grey).mean((1, 2, 3)) > 0.005).all()
    order = np.argsort(np.asarray(grey[0]).ravel())
    assert (np.diff(colored[0].ravel()[order]) >= -1e-6).all()


@pytest.mark.parametrize("fields", [{"flip": 0.5, "shift_pixels": 2, "cutout_pixels": 2}])
def test_each_example_depends_on_its_own_key_only(fields):
    together = run(**fields)
    halves = [run(IMAGES[part], KEYS[part], **fields) for part in (slice(0, 2), slice(2, 6))]
    np.testing.assert_array_equal(together, np.concatenate(halves))
    other = run(keys=jax.random.split(jax.random.key(9), BATCH), **fields)
    assert not np.array_equal(together, other)


def test_one_augmentation_does_not_move_the_choices_of_another():
    shifted = run(shift_pixels=2)
    both = run(shift_pixels=2, flip=1.0)
    np.testing.assert_array_equal(run(IMAGES[:, :, ::-1], shift_pixels=2), both)
    assert not np.array_equal(shifted, both)
