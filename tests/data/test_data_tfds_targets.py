"""Prepared TFDS directories with masks and boxes, in TFDS's own format."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax import data
from cnnjax.data import boxes, description, records, source
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError
from common import sizes

F = tfds.features
HEIGHT, WIDTH = 6, 8
COUNT = 20


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return io.BytesIO(out.getvalue())


def image(number):
    return png(np.full((HEIGHT, WIDTH, 3), number, np.uint8))


def trimap(number, values=(1, 2, 3)):
    indices = (np.arange(HEIGHT * WIDTH) + number) % len(values)
    return np.array(values, np.uint8)[indices].reshape(HEIGHT, WIDTH)


def prepare(name, folder, features, splits, supervised=None):
    """Prepares examples, {split: [{feature: value}]}, by a builder of this name under `folder`."""

    class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=F.FeaturesDict(features),
                supervised_keys=supervised,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    Prepared.name = name
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Prepared(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


PET = {
    "image": F.Image(shape=(None, None, 3)),
    "label": F.ClassLabel(names=["cat", "dog"]),
    "segmentation_mask": F.Image(shape=(None, None, 1)),
    "head_bbox": F.BBoxFeature(),
}


def pet(number, **changes):
    left, bottom = number % 4 / 8, (3 + number % 3) / 6
    row = {
        "image": image(number),
        "label": number % 2,
        "segmentation_mask": png(trimap(number)),
        "head_bbox": F.BBox(ymin=0.0, xmin=left, ymax=bottom, xmax=left + 0.5),
    }
    return {**row, **changes}


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    rows = [pet(number) for number in range(COUNT)]
    rows[5]["head_bbox"] = F.BBox(ymin=0.0, xmin=0.0, ymax=0.0, xmax=0.0)
    splits = {"train": rows[:15], "test": rows[15:]}
    folder = tmp_path_factory.mktemp("pets")
    return prepare("oxford_iiit_pet", folder, PET, splits, ("image", "label"))


def by_number(loaded):
    return {
        int(picture.max()): {name: values[i] for name, values in part.targets.items()}
        for part in loaded.splits.values()
        for i, picture in enumerate(part.images)
    }


@pytest.mark.parametrize("pipeline", ["memory", "stream"])
def test_labels_masks_and_boxes_of_pets(pets, make_config, pipeline):
    config = make_config(name="oxford_iiit_pet", pipeline=pipeline)
    for _ in range(2):  # the second time from the cache
        loaded = data.load(config.model_copy(update={"image_size": 12}), pets)
    spec = loaded.spec
    assert spec.targets == ("label", "box", "mask")
    assert (spec.class_names, spec.mask_names) == (("cat", "dog"), ("pet", "background", "border"))
    assert sizes(loaded) == {"train": 13, "validation": 2, "test": 5}
    loaded = data.load(make_config(name="oxford_iiit_pet", image_size=HEIGHT), pets)
    assert loaded.spec.image_shape == (HEIGHT, HEIGHT, 3)
    found = by_number(loaded)
    assert len(found) == COUNT
    for number, targets in found.items():
        assert targets["label"] == number % 2
        whole = Image.fromarray(trimap(number) - 1)
        expected = whole.resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(targets["mask"], expected)
        left = number % 4 / 8
        corners = [left, 0, left + 0.5, (3 + number % 3) / 6] if number != 5 else [0] * 4
        np.testing.assert_allclose(boxes.to_corners(targets["box"]), corners, atol=1e-6)


VOC = {
    "image": F.Image(shape=(None, None, 3)),
    "objects": F.Sequence(
        {"label": F.ClassLabel(names=["bird", "boat", "bus"]), "bbox": F.BBoxFeature()}
    ),
    "labels": F.Sequence(F.ClassLabel(names=["bird", "boat", "bus"])),
}


def scene(number, objects):
    listed = [
        {"label": label, "bbox": F.BBox(ymin=corners[1], xmin=corners[0], ymax=corners[3],
                                        xmax=corners[2])}
        for label, corners in objects
    ]  # fmt: skip
    return {"image": image(number), "objects": listed, "labels": [each["label"] for each in listed]}


SMALL, LARGE = (0.5, 0.5, 0.75, 0.75), (0.25, 0.0, 1.0, 0.5)


def test_of_several_objects_the_largest_is_the_target(tmp_path, make_config):
    """The test split, whose objects are withheld, is left out."""
    rows = [
        scene(number, [("bus", SMALL), ("boat", LARGE), ("bird", SMALL)][number % 2 :])
        for number in range(COUNT)
    ]
    withheld = [scene(number, []) for number in range(20, 24)]
    folder = prepare("voc", tmp_path, VOC, {"train": rows, "test": withheld})
    loaded = data.load(make_config(name="voc", image_size=8), folder)
    assert loaded.spec.targets == ("label", "box")
    assert loaded.spec.class_names == ("bird", "boat", "bus")
    assert sizes(loaded) == {"train": 14, "validation": 2, "test": 4}
    for targets in by_number(loaded).values():
        assert targets["label"] == 1
        np.testing.assert_allclose(boxes.to_corners(targets["box"]), LARGE, atol=1e-6)


def test_masks_alone_whose_values_have_no_names(tmp_path, make_config):
    features = {name: PET[name] for name in ("image", "segmentation_mask")}
    rows = [
        {"image": image(number), "segmentation_mask": png(trimap(number, (9, 0, IGNORE)))}
        for number in range(COUNT)
    ]
    folder = prepare("roads", tmp_path, features, {"train": rows})
    loaded = data.load(make_config(name="roads", image_size=8), folder)
    spec = loaded.spec
    assert (spec.targets, spec.mask_names, spec.class_names) == (("mask",), ("0", "9"), ())
    assert set(np.unique(loaded.splits["train"].targets["mask"])) == {0, 1, IGNORE}


SHORT = png(trimap(3)[:, :-1])
BAD = {
    "its mask is 6x7, but its image is 6x8": {"segmentation_mask": SHORT},
    "its mask has the value 4; allowed: 1, 2, 3, 255": {
        "segmentation_mask": png(trimap(3, (1, 4)))
    },
    "its mask: not a readable image": {"segmentation_mask": io.BytesIO(b"no image")},
}


@pytest.mark.parametrize("text", BAD)
def test_bad_masks(tmp_path, make_config, text):
    rows = [pet(number, **(BAD[text] if number == 3 else {})) for number in range(COUNT)]
    for value in BAD[text].values():
        value.seek(0)
    folder = prepare("oxford_iiit_pet", tmp_path, PET, {"train": rows}, ("image", "label"))
    check_bad(folder, make_config, "oxford_iiit_pet", text)


def test_images_without_objects(tmp_path, make_config):
    rows = [scene(n, [] if n == 3 else [("bus", SMALL)]) for n in range(COUNT)]
    check_bad(prepare("voc", tmp_path, VOC, {"train": rows}), make_config, "voc", "has no objects.")


def check_bad(folder, make_config, name, text):
    where = f"{folder}/{name}/1.0.0, split 'train', example 3"
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            data.load(make_config(name=name, image_size=8), folder)
        assert f"{where}: {text}" in str(caught.value)
        assert str(caught.value).endswith("(data.skip_bad=true leaves out the bad example.)")
        assert "\n" not in str(caught.value)
    loaded = data.load(make_config(name=name, image_size=8, skip_bad=True), folder)
    assert set(by_number(loaded)) == set(range(COUNT)) - {3}
    assert loaded.fingerprint["left_out"].startswith("1 example, digest ")
    streamed = data.load(
        make_config(name=name, image_size=8, skip_bad=True, pipeline="stream"), folder
    )
    for split, part in loaded.splits.items():
        np.testing.assert_array_equal(part.targets["box"], streamed.splits[split].targets["box"])
    note, reason = data.describe([make_config(name=name, skip_bad=True)], folder)
    assert note == f"{name}: note: 1 example left out (data.skip_bad):"
    assert reason.startswith(f"{name}:   split 'train', exam")


def test_a_set_of_labels_has_labels_alone(tmp_path, make_config, monkeypatch):
    """It is neither inspected nor are its caches other than before."""
    features = {name: PET[name] for name in ("image", "label")}
    rows = [{"image": image(n), "label": n % 2} for n in range(COUNT)]
    folder = prepare("food101", tmp_path, features, {"train": rows}, ("image", "label"))
    monkeypatch.setattr(source.tfds_source, "_inspect", None)
    found = source.find("food101", folder)
    assert found.targets == ("label",)
    assert found.splits["train"].read([2])[0][1] == {"label": 0}
    assert found.splits["train"].labels().tolist() == [n % 2 for n in range(COUNT)]
    assert description.describe([make_config(name="food101")], folder) == []


def test_a_box_that_is_not_inside_the_image():
    """TFDS itself refuses to write one."""
    size = (HEIGHT, WIDTH)
    box = records.tfds_box(np.array([-0.08, 0.25, 0.5, 1.06], np.float32), size, "here")
    np.testing.assert_allclose(boxes.to_corners(box), [0.25, 0, 1, 0.5], atol=1e-6)
    for corners in (
        [-0.09, 0, 1, 1],
        [0, 0, 1, 1.07],
        [0.5, 0, 0.4, 1],
        [0, np.nan, 1, 1],
        [0, 0, 1, np.nan],
    ):
        with pytest.raises(UserError, match=r"here: the box \(ymin, xmin, ymax, xmax\) = \("):
            records.tfds_box(np.array(corners), size, "here")
