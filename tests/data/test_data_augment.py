import colorsys
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Augmentation
from cnnjax.data import augment, color

BATCH = 6
KEYS = jax.random.split(jax.random.key(0), BATCH)
IMAGES = jax.random.uniform(jax.random.key(1), (BATCH, 8, 10, 3))


@functools.cache
def compiled(shape, mean, fields):
    return jax.jit(augment.build(Augmentation(**dict(fields)), shape, mean))


def run(images=IMAGES, keys=KEYS, mean=None, **fields):
    function = compiled(images.shape[1:], mean, tuple(fields.items()))
    labels = jnp.arange(len(images))
    changed, targets = function(keys, images, {"label": labels})
    np.testing.assert_array_equal(targets.pop("label"), labels)
    assert not targets
    return np.asarray(changed)


def test_all_off_is_the_identity():
    function = augment.build(Augmentation(), (8, 10, 3))
    targets = {"label": jnp.arange(BATCH)}
    images, same = function(KEYS, IMAGES, targets)
    assert images is IMAGES
    assert same is targets


def test_flip_mirrors_left_and_right():
    np.testing.assert_array_equal(run(flip=1.0), IMAGES[:, :, ::-1])
    keys = jax.random.split(jax.random.key(2), 400)
    marked = jnp.tile(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (400, 1, 1, 1))
    share = run(marked, keys, flip=0.3)[:, 0, 0, 0].mean()
    assert 0.2 < share < 0.4


def draws(number, names=1):
    """Keys of a step of every example, as many as it draws from: [BATCH, names]."""
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, number), names))(KEYS)


def test_rotation_is_counterclockwise_by_the_angle_drawn(monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key, minval, maxval: maxval)
    image = jnp.arange(36.0).reshape(6, 6, 1) / 36
    matrix = augment._draw_warp(0.0, 90.0, KEYS[0])
    np.testing.assert_allclose(augment._warp(matrix, image), np.rot90(image), atol=1e-6)


def test_zoom_and_rotation_by_hand():
    """A linear ramp stays one under bilinear resampling: within the image the value at (y, x) from
    the centre is that of the ramp at the inverse of the zoom and the turn."""
    y, x = np.mgrid[:9, :13] - np.array([4.0, 6.0]).reshape(2, 1, 1)
    ramp = np.float32(0.5 + 0.03 * y + 0.02 * x)[..., None]
    images = jnp.tile(ramp[None], (BATCH, 1, 1, 1))
    zoom_keys, turn_keys = draws(1, 2)[:, 0], draws(1, 2)[:, 1]
    uniform = jax.vmap(lambda key: jax.random.uniform(key, minval=-1, maxval=1))
    factors, angles = 1 + 0.3 * uniform(zoom_keys), np.deg2rad(20.0) * uniform(turn_keys)
    result = run(images, rotation_degrees=20, scale=0.3)
    for factor, angle, image in zip(factors, angles, result, strict=True):
        down = (math.cos(angle) * y + math.sin(angle) * x) / factor
        right = (math.cos(angle) * x - math.sin(angle) * y) / factor
        inside = (abs(down) <= 4) & (abs(right) <= 6)
        outside = (abs(down) >= 5) | (abs(right) >= 7)
        expected = 0.5 + 0.03 * down + 0.02 * right
        np.testing.assert_allclose(image[inside, 0], expected[inside], atol=1e-6)
        assert inside.sum() > 40
        assert (image[outside] == 0).all()


def test_draws_and_numbers_are_those_of_published_results():
    """Those of augmax 0.4.1: the matrix, the grey values and, but for saturation, the colours."""
    key = jax.random.key(0)
    cos, sin = 0.8504576683044434, 0.22440187633037567
    np.testing.assert_allclose(
        augment._draw_warp(0.2, 15.0, key)[:2, :2], [[cos, -sin], [sin, cos]], rtol=1e-7
    )
    grey = color.jitter(1.0, key, jnp.array([[[0.2], [0.5], [0.8]]]))
    expected = [0.14962674677371979, 0.404021680355072, 0.6777295470237732]
    np.testing.assert_allclose(grey[0, :, 0], expected, atol=1e-6)
    colors = color.jitter(1.0, key, jnp.array([[[0.2, 0.5, 0.8], [0.9, 0.1, 0.3]]]))
    expected = [[0.256130993, 0.479681671, 0.526833236], [0.537657022, 0.190350622, 0.390335947]]
    np.testing.assert_allclose(colors[0], expected, atol=1e-6)


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
    assert hidden.any(0).all(), "every pixel can be hidden"
    np.testing.assert_allclose(cut[hidden][0], [0.1, 0.2, 0.3], rtol=1e-6)
    cut = run(cutout_pixels=3)
    first = cut[0] != np.asarray(IMAGES[0])
    expected = np.asarray(IMAGES[0]).mean((0, 1))
    np.testing.assert_allclose(cut[0][first.any(-1)][0], expected, rtol=1e-5)


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


def test_one_step_does_not_change_the_random_choices_of_another():
    shifted = run(shift_pixels=2)
    both = run(shift_pixels=2, flip=1.0)
    np.testing.assert_array_equal(run(IMAGES[:, :, ::-1], shift_pixels=2), both)
    assert not np.array_equal(shifted, both)


def test_hsv_is_that_of_the_standard_library():
    rng = np.random.default_rng(0)
    pixels = rng.random((60, 3)).round(1).astype(np.float32)  # some are grey, some have ties
    pixels[:3] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.2]]
    hue, saturation, value = color.rgb_to_hsv(jnp.asarray(pixels)[None])
    theirs = np.array([colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in pixels])
    np.testing.assert_allclose(np.mod(hue[0] + 1e-5, 1) - 1e-5, theirs[:, 0], atol=1e-6)
    np.testing.assert_allclose(saturation[0], theirs[:, 1], atol=1e-6)
    np.testing.assert_allclose(value[0], theirs[:, 2], atol=1e-6)
    np.testing.assert_allclose(color.hsv_to_rgb(hue, saturation, value)[0], pixels, atol=1e-6)
    turned = color.hsv_to_rgb(hue + 1 / 3, saturation, value)[0]
    np.testing.assert_allclose(turned, np.roll(pixels, 1, axis=1), atol=1e-6)


def test_brightness_and_contrast_by_hand():
    values = jnp.array([0.0, 0.1, 0.5, 0.9, 1.0])
    darker, brighter = (color.adjust_brightness(values, jnp.float32(by)) for by in (-0.2, 0.2))
    np.testing.assert_allclose(darker, [0, 0.08, 0.4, 0.72, 0.8], atol=1e-6)
    np.testing.assert_allclose(brighter, [0.2, 0.28, 0.6, 0.92, 1], atol=1e-6)
    two = jnp.float32(
        4 / math.pi * math.atan(2.0) - 1
    )  # a slope of 2, and of 1/2 beyond 1/3 and 2/3
    values = jnp.array([0.0, 0.2, 1 / 3, 0.4, 0.5, 0.7, 1.0])
    steeper, flatter = (color.adjust_contrast(values, by) for by in (two, -two))
    np.testing.assert_allclose(steeper, [0, 0.1, 1 / 6, 0.3, 0.5, 0.85, 1], atol=1e-6)
    np.testing.assert_allclose(color.adjust_contrast(steeper, -two), values, atol=1e-6)
    np.testing.assert_allclose(flatter, [0, 0.35, 5 / 12, 0.45, 0.5, 0.6, 1], atol=1e-6)
    np.testing.assert_array_equal(color.adjust_contrast(values, jnp.float32(0)), values)
