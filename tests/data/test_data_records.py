"""How images are resized."""

import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.data.records import Resize
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
