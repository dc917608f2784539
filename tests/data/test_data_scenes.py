"""The embedded scenes: determinism, targets that agree with the images, and their fields."""

import dataclasses

import numpy as np
import pytest

from cnnjax import data
from cnnjax.config import Scenes, create
from cnnjax.data import boxes, scenes, source
from cnnjax.errors import UserError

DIGITS = source.digits()


def make(name, **fields):
    return scenes.source(name, Scenes(**{"examples": 40, **fields}), DIGITS)


def arrays(made, split="train"):
    records = made.splits[split]
    examples = records.read(range(len(records)))
    return np.stack([image for image, _ in examples]), records.targets


def test_a_scene_is_a_function_of_seed_split_and_index(tmp_path, monkeypatch):
    images, targets = arrays(make("digit_masks"))
    longer, more = arrays(make("digit_masks", examples=60))
    np.testing.assert_array_equal(images, longer[:40])
    np.testing.assert_array_equal(targets["mask"], more["mask"][:40])
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))  # made again rather than read
    again, _ = arrays(make("digit_masks"))
    np.testing.assert_array_equal(images, again)
    other, _ = arrays(make("digit_masks", seed=1))
    assert (images != other).any((1, 2, 3)).all()
    assert make("digit_masks").key != make("digit_masks", seed=1).key


def test_splits_have_different_digits():
    divided = scenes._divided(DIGITS)
    counts = {name: len(images) for name, (images, _) in divided.items()}
    assert counts == {"train": 1147, "validation": 200, "test": 450}
    made = make("digit_boxes", examples=80)
    assert {name: len(records) for name, records in made.splits.items()} == {
        "train": 80,
        "validation": 20,
        "test": 20,
    }


def test_a_box_is_the_bounding_box_of_its_digit():
    """Without clutter the digit is all there is."""
    images, targets = arrays(make("digit_boxes", clutter=0))
    assert set(targets) == {"label", "box"}
    for image, box in zip(images, targets["box"], strict=True):
        rows, columns = (np.flatnonzero((image[..., 0] >= scenes.INK).any(axis)) for axis in (1, 0))
        edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 48
        np.testing.assert_allclose(boxes.to_corners(box), edges, atol=1e-6)
    assert len(set(targets["label"].tolist())) > 5


def test_a_mask_is_the_ink_of_its_digits():
    made = make("digit_masks", clutter=0)
    images, targets = arrays(made)
    assert made.mask_names == ("background", *"0123456789")
    np.testing.assert_array_equal(targets["mask"] > 0, images[..., 0] >= scenes.INK)
    present = [len(np.unique(mask)) - 1 for mask in targets["mask"]]
    assert (min(present), max(present)) == (1, 4)


def test_pieces_belong_to_no_class_and_touch_no_digit():
    bare, cluttered = (arrays(make("digit_masks", clutter=count)) for count in (0, 6))
    np.testing.assert_array_equal(bare[1]["mask"], cluttered[1]["mask"])
    ink = bare[1]["mask"] > 0
    np.testing.assert_array_equal(bare[0][ink], cluttered[0][ink])
    assert (cluttered[0][~ink] >= bare[0][~ink]).all()
    assert (cluttered[0] != bare[0]).any((1, 2, 3)).mean() > 0.9


def test_digits_overlap_only_if_they_may(tmp_path, monkeypatch):
    """Pixels of all digits, counted before they cover each other."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    pixels = {}
    for overlap in (0.0, 1.0):
        inks = []
        place = scenes._place

        def counted(mask, ink, overlap, draw, place=place, inks=inks):
            found = place(mask, ink, overlap, draw)
            inks.append(0 if found is None or ink.all() else int(ink.sum()))
            return found

        monkeypatch.setattr(scenes, "_place", counted)
        fields = {"canvas_size": 32, "digits": 6, "clutter": 0}
        made = make("digit_masks", overlap=overlap, **fields)
        monkeypatch.setattr(scenes, "_place", place)
        shown = sum(np.count_nonzero(arrays(made, split)[1]["mask"]) for split in made.splits)
        pixels[overlap] = shown, sum(inks)
    assert pixels[0.0][0] == pixels[0.0][1]
    assert pixels[1.0][0] < pixels[1.0][1]


def test_fields_of_the_canvas_and_the_zoom():
    images, targets = arrays(make("digit_boxes", canvas_size=64, smallest=4, largest=4))
    assert images.shape == (40, 64, 64, 1)
    heights = targets["box"][:, 3] * 64
    assert 20 < heights.min() <= heights.max() <= 32


def test_they_are_loaded_by_name():
    loaded = data.load(create({"data": {"name": "digit_masks", "scenes": {"examples": 40}}}).data)
    assert (loaded.spec.targets, loaded.spec.image_shape) == (("mask",), (48, 48, 1))
    masks = loaded.splits["train"].targets["mask"]
    counts = np.bincount(masks.ravel(), minlength=11)
    assert loaded.spec.mask_pixels == tuple(counts)
    assert dataclasses.asdict(loaded.spec)["mask_present"][0] == masks.size


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "digits", "scenes": {"seed": 1}},
            "data.scenes.seed: means nothing for digits; it be",
        ),
        ({"name": "digit_masks", "scenes": {"largest": 9}}, "9 makes digits larger than data.sce"),
        ({"name": "digit_masks", "scenes": {"smallest": 4}}, "4 is larger than data.scenes.larg"),
    ],
)
def test_fields_that_contradict_each_other(fields, message):
    with pytest.raises(UserError) as caught:
        create({"data": fields})
    assert message in str(caught.value)
