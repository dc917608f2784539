"""How images are resized."""

import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.data.records import Resize
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError


def ramp(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


def test_stretched():
    result = Resize((4, 6)).image(ramp(8, 12))
    assert result.shape == (4, 6, 3)
    np.testing.assert_allclose(result[:, 0, 0], [0.5, 2.5, 4.5, 6.5], atol=1)
    assert Resize((8, 12)).image(ramp(8, 12)).base is None  # the image itself


def test_centre_crop_without_resizing():
    """torchvision: of 8 x 13, centre 5 x 5 starts at round(1.5) = 2 and round(4)."""
    result = Resize((5, 5), shorter_side=8).image(ramp(8, 13))
    np.testing.assert_array_equal(result[:, 0, 0], np.arange(2, 7))
    np.testing.assert_array_equal(result[0, :, 1], np.arange(4, 9))


@pytest.mark.parametrize("shape", [(20, 31), (31, 20), (7, 9)])
@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_shorter_side_is_resized(shape, kind):
    """The longer side is cut to whole pixels, as torchvision does: 31 * 10 // 20 = 15."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    height, width = (10 * side // min(shape) for side in shape)
    whole = Image.fromarray(image).resize((width, height), Image.Resampling[kind.upper()])
    top, left = round((height - 8) / 2), round((width - 8) / 2)
    expected = np.asarray(whole)[top : top + 8, left : left + 8]
    np.testing.assert_array_equal(Resize((8, 8), kind, 10).image(image), expected)


def test_a_box_is_stretched_even_with_shorter_side():
    image = ramp(10, 10)
    result = Resize((4, 4), shorter_side=8).image(image, (2.0, 2.0, 6.0, 6.0))
    np.testing.assert_array_equal(result, image[2:6, 2:6])


@pytest.mark.parametrize("shorter_side", [None, 6])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 10), (9, 30)])
def test_boxes_and_masks_return_to_the_original_image(height, width, shorter_side):
    resize = Resize((4, 4), "nearest", shorter_side)
    left, top, right, bottom = resize.visible(height, width)
    whole = resize.original_box(np.array([0.5, 0.5, 1, 1]), height, width)
    assert whole == pytest.approx((left, top, right, bottom))
    quarter = resize.original_box(np.array([0.25, 0.25, 0.5, 0.5]), height, width)
    middle = ((left + right) / 2, (top + bottom) / 2)
    assert quarter == pytest.approx((left, top, *middle))
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    original = resize.original_mask(mask, height, width)
    assert original.shape == (height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    np.testing.assert_array_equal(original == IGNORE, ~inside)
    again = resize.targets(np.zeros((height, width, 1), np.uint8), {"mask": original})["mask"]
    np.testing.assert_array_equal(again, mask)


def test_a_box_beyond_the_image_is_clipped():
    edges = Resize((4, 4)).original_box(np.array([0.9, 0.1, 0.4, 0.4]), 10, 20)
    assert edges == pytest.approx((14, 0, 20, 3))


def test_in_memory_and_streamed_give_the_same(make_config):
    fields = {"image_size": 6, "shorter_side": 7, "interpolation": "bicubic"}
    pair = [data.load(make_config(pipeline=kind, **fields)).for_seed(0, 10) for kind in
            ("memory", "stream")]  # fmt: skip
    memory, stream = pair
    assert memory.spec.image_shape == stream.spec.image_shape == (6, 6, 1)
    indices = next(memory.train_batches(0, 1))["indices"]
    streamed = next(stream.train_batches(0, 1))["images"]
    np.testing.assert_array_equal(memory.store()["images"][indices], streamed)
    np.testing.assert_array_equal(memory.first("train", 3)[0], stream.first("train", 3)[0])


def test_a_mean_with_another_number_of_channels(make_config):
    config = make_config(normalize="given", mean=(0.5,) * 3, sd=(0.2,) * 3)
    with pytest.raises(UserError, match="has 3 numbers, but the images of 'digits' have 1 channel"):
        data.load(config).for_seed(0, 10)
