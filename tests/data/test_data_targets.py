"""Masks and boxes: converters, checks, and how they are resized with their images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.data import boxes, decoded, source, targets
from cnnjax.data.records import ArrayRecords, Resize
from cnnjax.data.spec import Source
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError


@pytest.mark.parametrize("xp", [np, jnp])
def test_boxes_and_corners_by_hand(xp):
    box = boxes.from_corners(*xp.asarray([[0.25], [0.5], [0.75], [0.6]]))
    np.testing.assert_allclose(box, [[0.5, 0.55, 0.5, 0.1]], rtol=1e-6)
    assert isinstance(box, type(xp.zeros(1)))
    np.testing.assert_allclose(
        xp.stack(boxes.to_corners(box))[:, 0], [0.25, 0.5, 0.75, 0.6], rtol=1e-6
    )
    np.testing.assert_allclose(boxes.area(box), [0.05], rtol=1e-6)
    assert boxes.from_corners(0.0, 0.0, 1.0, 0.5).tolist() == [0.5, 0.25, 1, 0.5]


CLIPPED = {
    (0.5, 0.5, 0.2, 0.4): (0.5, 0.5, 0.2, 0.4),
    (0.0, 0.5, 0.5, 1.0): (0.125, 0.5, 0.25, 1.0),
    (1.5, 0.5, 3.0, 3.0): (0.5, 0.5, 1.0, 1.0),
    (1.2, 0.5, 0.4, 0.2): (0, 0, 0, 0),  # touches the edge
    (0.5, -2.0, 0.4, 0.2): (0, 0, 0, 0),
    (0.5, 0.5, 0.0, 0.0): (0, 0, 0, 0),
}


@pytest.mark.parametrize("xp", [np, jnp])
def test_boxes_are_clipped_to_the_image(xp):
    clip = jax.jit(jax.vmap(boxes.clip)) if xp is jnp else boxes.clip
    clipped = clip(xp.asarray(list(CLIPPED), xp.float32))
    np.testing.assert_allclose(clipped, list(CLIPPED.values()), atol=1e-7)
    assert clipped.dtype == xp.float32


def test_a_part_of_the_image_shows_part_of_a_box():
    box = np.array([0.5, 0.5, 0.5, 0.2])  # from 0.25 to 0.75 and from 0.4 to 0.6
    seen = boxes.crop(box, np.array([0.5, 0.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(seen, boxes.from_corners(0.0, 0.8, 0.5, 1.0))
    assert not boxes.crop(box, np.array([0.8, 0.0]), np.array([0.2, 0.2])).any()


GOOD = {
    "label": np.array([0, 2], np.int32),
    "mask": np.array([[[0, 1]], [[IGNORE, 0]]], np.uint8),
    "box": np.array([[0.5, 0.5, 1.000001, 1], [0, 0, 0, 0]], np.float32),
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"label": [0, 3]}, "1: has the label 3; allowed: 0 to 2."),
        ({"label": [-1, 0]}, "0: has the label -1; allowed: 0 to 2."),
        (
            {"mask": [[[0, 0]], [[2, 0]]]},
            "1: has the class 2 in its mask; allowed: 0 to 1, and",
        ),
        (
            {"box": [[0, 0, 0, 0], [0.9, 0.5, 0.25, 1]]},
            r"1: has the box \(cx, cy, w, h\) = \(0",
        ),
        ({"box": [[0.5, 0.5, -0.1, 1], [0, 0, 0, 0]]}, "0: has the box"),
        ({"box": [[0.5, np.nan, 0.1, 1], [0, 0, 0, 0]]}, "0: has the box"),
    ],
)
def test_values_that_are_not_allowed(changes, text):
    assert targets.verify(GOOD, "{}:".format, 3, 2) is GOOD
    with pytest.raises(UserError, match=text):
        targets.verify(
            GOOD | {name: np.array(values) for name, values in changes.items()}, "{}:".format, 3, 2
        )


def test_pixels_are_counted_by_hand():
    """Class 1 occurs in the second mask alone, which has three known pixels."""
    masks = np.array([[[0, 0], [0, 2]], [[1, 1], [IGNORE, 0]]], np.uint8)
    pixels, present = targets.count_pixels(masks, 4)
    assert pixels.tolist() == [4, 2, 1, 0]
    assert present.tolist() == [7, 3, 4, 0]


def scene(rng, height, width):
    """An image with a bright rectangle, its mask (a function of the image) and its box."""
    x0, y0 = rng.integers(0, width // 2), rng.integers(0, height // 2)
    x1, y1 = rng.integers(x0 + 4, width + 1), rng.integers(y0 + 4, height + 1)
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    box = boxes.from_corners(x0 / width, y0 / height, x1 / width, y1 / height)
    mask = (image[:, :, 0] > 127).astype(np.uint8)
    return image, {"label": np.int32(1), "mask": mask, "box": box.astype(np.float32)}


RESIZES = [
    (Resize((12, 10), "nearest"), None),
    (Resize((40, 60), "nearest"), None),
    (Resize((16, 16), "nearest", 20), None),
    (Resize((9, 9), "nearest", 9), None),
    (Resize(None, "nearest"), None),
    (Resize((16, 24), "nearest"), (3.2, 2.7, 18.4, 17.9)),
    (Resize((16, 16), "nearest", 20), (0.0, 5.5, 11.0, 19.0)),
]


def drawn_box(mask):
    """(left, top, right, bottom) in pixels of what is drawn."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize(("resize", "part"), RESIZES)
@pytest.mark.parametrize("shape", [(20, 31), (31, 20)])
def test_resizing_moves_image_mask_and_box_alike(resize, part, shape):
    """With nearest neighbours for the image too, the mask stays a function of it exactly; the box
    is found again within a pixel, and is 0 where nothing is left of it."""
    rng = np.random.default_rng(0)
    cut = 0
    for _ in range(30):
        image, resized = resize(scene(rng, *shape), part)
        mask, box = resized["mask"], resized["box"]
        assert (mask.dtype, box.dtype, resized["label"]) == (np.uint8, np.float32, 1)
        np.testing.assert_array_equal(mask, image[:, :, 0] > 127)
        height, width = mask.shape
        edges = np.array(boxes.to_corners(box)) * [width, height, width, height]
        if not mask.any():  # less than a pixel can be left of the box
            assert edges[2] - edges[0] <= 1 or edges[3] - edges[1] <= 1
            cut += not box.any()
        else:
            np.testing.assert_allclose(edges, drawn_box(mask), atol=1)
    if part is not None and resize.shorter_side is not None:
        assert cut, "some rectangles lie outside the part"


def test_masks_never_gain_classes_and_are_those_of_pillow():
    rng = np.random.default_rng(1)
    mask = rng.choice(np.array([0, 7, 200, IGNORE], np.uint8), (33, 20))
    image = rng.integers(0, 256, (33, 20, 3), np.uint8)
    for kind in ("bilinear", "lanczos"):
        for size, part in (((8, 50), None), ((17, 9), (1.3, 2.6, 19.0, 30.1))):
            result = Resize(size, kind).targets(image, {"mask": mask}, part)["mask"]
            theirs = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST, part)
            np.testing.assert_array_equal(result, theirs)
            assert set(np.unique(result)) <= set(np.unique(mask))


@pytest.fixture
def scenes(monkeypatch):
    """A data set of 40 scenes of one size in memory, found as `digits`."""
    rng = np.random.default_rng(2)
    images, dicts = zip(*[scene(rng, 20, 30) for _ in range(40)], strict=True)
    arrays = {name: np.array([each[name] for each in dicts]) for name in dicts[0]}
    arrays["mask"][:, 0] = IGNORE
    found = Source(
        "digits",
        "scenes",
        ("none", "some"),
        3,
        (20, 30),
        {"train": ArrayRecords(np.array(images), arrays)},
        "",
        targets=("label", "mask", "box"),
        mask_names=("dark", "bright"),
    )
    monkeypatch.setattr(source, "find", lambda *_: found)
    return found


FIELDS = [
    {},
    {"image_size": 16},
    {"image_size": 16, "shorter_side": 18},
    {"image_size": 16, "train_examples": 12},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_masks_and_boxes_in_memory_and_streamed(scenes, make_config, fields):
    memory, streamed = (
        data.load(make_config(pipeline=kind, **fields)).for_seed(0, 8)
        for kind in ("memory", "stream")
    )
    spec = memory.spec
    assert spec == streamed.spec
    assert (spec.targets, spec.mask_names) == (("label", "mask", "box"), ("dark", "bright"))
    store = memory.store()
    known = memory.loaded.splits["train"].targets["mask"]
    assert spec.mask_pixels == ((known == 0).sum(), (known == 1).sum())
    assert spec.mask_present[0] == sum(spec.mask_pixels)
    for in_memory, batch in zip(memory.train_batches(0, 3), streamed.train_batches(0, 3),
                                strict=True):  # fmt: skip
        assert set(batch) == {"images", "label", "mask", "box"}
        for name, values in batch.items():
            np.testing.assert_array_equal(store[name][in_memory["indices"]], values)
            assert values.dtype == store[name].dtype
    (batch,) = streamed.eval_batches("validation", 10)
    assert batch["mask"].shape == (10, *spec.image_shape[:2])
    assert batch["valid"].sum() == len(streamed.splits["validation"])
    for name, part in memory.splits.items():
        for target, values in part.targets.items():
            np.testing.assert_array_equal(values, streamed.splits[name].targets[target])
    np.testing.assert_array_equal(
        memory.first("test", 3)[1]["mask"], streamed.first("test", 3)[1]["mask"]
    )


def test_a_streamed_crop_takes_masks_and_boxes_along(scenes, make_config):
    fields = {"interpolation": "nearest", "augmentation": {"random_resized_crop": 0.3}}
    run = data.load(make_config(pipeline="stream", image_size=24, **fields)).for_seed(0, 8)
    for batch in run.train_batches(0, 5):
        bright = batch["images"][..., 0] > 127
        known = batch["mask"] != IGNORE
        np.testing.assert_array_equal(batch["mask"][known], bright[known])
        for mask, box in zip(bright, batch["box"], strict=True):
            if mask.any():
                edges = np.array(boxes.to_corners(box)) * 24
                np.testing.assert_allclose(edges, drawn_box(mask), atol=1.0001)


def test_masks_are_decoded_once(scenes, tmp_path, monkeypatch):
    """Of a source on disk, resized masks and boxes come from the cache the second time."""
    records = scenes.splits["train"]
    on_disk = dataclasses.replace(
        scenes, splits={"train": Disk(records.images, records.targets)}, key=str(tmp_path)[-9:]
    )
    resize = Resize((10, 10), "nearest", 12)
    first = decoded.load(on_disk, "train", resize)
    streamed = decoded.targets(on_disk, "train", resize)
    monkeypatch.setattr(Disk, "read", None)
    again = decoded.load(on_disk, "train", resize)
    for name, values in first.targets.items():
        np.testing.assert_array_equal(values, again.targets[name])
        np.testing.assert_array_equal(values, streamed[name])
        np.testing.assert_array_equal(values, decoded.targets(on_disk, "train", resize)[name])


class Disk:
    """Records that are not those of arrays."""

    def __init__(self, images, targets):
        self.records = ArrayRecords(images, targets)

    def __len__(self):
        return len(self.records)

    def read(self, positions):
        return self.records.read(positions)
