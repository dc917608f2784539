"""What the arms get right and wrong: examples beside truth, and confusion matrices."""

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import workdirs
from PIL import Image, ImageColor

from cnnjax import metric
from cnnjax.ablation import anonymous, arrays, reading
from cnnjax.ablation.blocks import compare
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError
from cnnjax.report import ablation, confusion, examples, palette, pictures
from cnnjax.report.document import Figure, Paragraph

NAMES = ("cat", "dog", "a bird of paradise")
KINDS = ["best", "best", "median", "median", "worst", "worst"]


def classified(**changes):
    """The arrays of an examples file of classification."""
    random = np.random.default_rng(0)
    return {
        "kind": np.array([*KINDS, "mistake"]),
        "ids": np.arange(7),
        "images": random.integers(0, 256, (7, 8, 8, 1), dtype=np.uint8),
        "target.label": np.array([0, 1, 2, 0, 1, 2, 2], np.int32),
        "prediction.logits": np.log(np.array([[6, 3, 1]] * 7, np.float32)),
        "metric.accuracy": np.array([1, 1, 1, 1, 0, 0, 0], np.float32),
        "metric.loss": np.zeros(7, np.float32),
        "class_names": np.array(NAMES),
        "mask_names": np.array((), str),
        **changes,
    }


def located(**changes):
    boxes = {
        "target.box": np.array([[0.5, 0.5, 0.5, 0.25]] * 6 + [[0, 0, 0, 0]], np.float32),
        "prediction.predicted_box": np.array([[0.25, 0.5, 0.5, 0.5]] * 7, np.float32),
        "metric.mean_iou": np.linspace(1, 0, 7, dtype=np.float32),
        "metric.accuracy_at_iou50": np.ones(7, np.float32),
    }
    return classified(**boxes, **changes)


def segmented(**changes):
    mask = np.zeros((6, 8, 12), np.uint8)
    mask[:, :4, :6] = 1
    mask[:, 6:] = IGNORE
    guess = np.zeros((6, 8, 12), np.uint8)
    guess[:, :5, :6] = 2
    values = {
        "kind": np.array(KINDS),
        "ids": np.arange(6),
        "images": np.full((6, 8, 12, 3), 200, np.uint8),
        "target.mask": mask,
        "prediction.predicted_mask": guess,
        "metric.image_iou": np.linspace(0.9, 0.1, 6, dtype=np.float32),
        "class_names": np.array((), str),
        "mask_names": np.array(("sky", "road", "car")),
    }
    return values | changes


def write(path, values):
    np.savez_compressed(path, **values)
    return path


def study_of(tmp_path, task="classification", **arms):
    overrides = {name: {"task": task} for name in arms}
    workdirs.make(tmp_path, arms, seeds=2, overrides=overrides)
    return dataclasses.replace(reading.load(tmp_path), metrics=metric.TASKS[task])


def section(study):
    (block,) = compare(dataclasses.replace(study, metrics=metric.CLASSIFICATION))
    return pictures.section(block, 0, study)


def texts(drawing):
    return [node.text for node in ElementTree.fromstring(drawing).iter() if node.text]


def pictures_in(drawing):
    links = re.findall(r'href="data:image/\w+;base64,([^"]+)"', drawing)
    return [Image.open(io.BytesIO(base64.b64decode(link))) for link in links]


def test_examples_of_classification_show_truth_and_prediction(tmp_path):
    kept = examples.read(write(tmp_path / "a.npz", classified()), "classification")
    drawing = examples.draw(kept, "classification", metric.CLASSIFICATION)
    words = texts(drawing)
    assert [text for text in words if text in examples._KINDS.values()] == [
        "Best", "Median", "Worst", "Most confident mistakes",
    ]  # fmt: skip
    assert words.count("predicted: cat") == words.count("with 60%") == 7
    assert words.count("true: cat") == 2
    assert "true: a bird of paradise" in words  # the tooltip, where the line is shortened
    for picture, image in zip(pictures_in(drawing), kept.images, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), image[:, :, 0])
    assert drawing.count("image-rendering:pixelated") == 7


def test_large_images_are_shrunk_and_smooth(tmp_path):
    values = classified(images=np.zeros((7, 300, 200, 3), np.uint8))
    kept = examples.read(write(tmp_path / "a.npz", values), "classification")
    drawing = examples.draw(kept, "classification", metric.CLASSIFICATION)
    assert {picture.size for picture in pictures_in(drawing)} == {(107, 160)}
    assert "pixelated" not in drawing


def test_examples_of_segmentation_show_both_masks_with_a_legend(tmp_path):
    kept = examples.read(write(tmp_path / "a.npz", segmented()), "segmentation")
    drawing = examples.draw(kept, "segmentation", metric.SEGMENTATION)
    image, truth, guess = pictures_in(drawing)[:3]
    assert image.size == (12, 8)
    masks = kept.targets["mask"][0], kept.predictions["predicted_mask"][0]
    for picture, mask in zip((truth, guess), masks, strict=True):
        seen = np.asarray(picture.convert("RGBA"))
        np.testing.assert_array_equal(seen[:, :, :3], palette.table()[mask])
        assert (seen[:, :, 3] == 153).all()  # 60 %: the image shines through
    words = texts(drawing)
    assert words[-4:] == ["sky", "road", "car", "not known"]
    assert words[words.index("IoU per image") + 1] == "90.00\u00a0%"
    root = ElementTree.fromstring(drawing)
    ids = {node.get("id") for node in root.iter()}
    uses = [node.get("href") for node in root.iter() if node.tag.endswith("use")]
    assert len(uses) == 12
    assert {link[1:] for link in uses} <= ids


def test_examples_of_localization_show_both_boxes(tmp_path):
    kept = examples.read(write(tmp_path / "a.npz", located()), "localization")
    root = ElementTree.fromstring(examples.draw(kept, "localization", metric.LOCALIZATION))
    image = next(node for node in root.iter() if node.tag.endswith("image"))
    x, y, wide, high = (float(image.get(name)) for name in ("x", "y", "width", "height"))
    frames = [node for node in root.iter() if node.tag.endswith("rect")]
    true = [node for node in frames if node.get("stroke") == palette.TRUE_BOX]
    predicted = [node for node in frames if node.get("stroke") == palette.PREDICTED_BOX]
    place = [float(true[0].get(name)) for name in ("x", "y", "width", "height")]
    assert place == pytest.approx([x + wide / 4, y + high * 3 / 8, wide / 2, high / 4], abs=0.1)
    assert true[0].get("stroke-dasharray") is None
    place = [float(predicted[0].get(name)) for name in ("x", "y", "width", "height")]
    assert place == pytest.approx([x, y + high / 4, wide / 2, high / 2], abs=0.1)
    assert predicted[0].get("stroke-dasharray")
    assert len(true) == 6 + 1  # one for the legend; in the last image nothing is visible
    words = [node.text for node in root.iter() if node.text]
    assert "with 60%, IoU 1.00" in words
    assert "with 60%, no object" in words


BROKEN = {
    "no images": {"images": np.zeros((7, 8, 8), np.uint8)},
    "float images": {"images": np.zeros((7, 8, 8, 1))},
    "too many": {"images": np.zeros((70, 8, 8, 1), np.uint8)},
    "empty": {"images": np.zeros((7, 0, 8, 1), np.uint8)},
    "kinds": {"kind": np.arange(7)},
    "other kinds": {"kind": np.array(["a"] * 7)},
    "labels": {"target.label": np.zeros((7, 2), int)},
    "float labels": {"target.label": np.zeros(7)},
    "few logits": {"prediction.logits": np.zeros((6, 3))},
    "empty logits": {"prediction.logits": np.zeros((7, 0))},
    "names": {"class_names": np.arange(3)},
    "metric": {"metric.loss": np.zeros((7, 2))},
    "box": {"target.box": np.zeros((7, 3), np.float32)},
    "box not finite": {"prediction.predicted_box": np.full((7, 4), np.nan, np.float32)},
    "objects": {"target.box": np.array([{}] * 7, object)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_with_other_arrays_is_refused(tmp_path, name):
    path = tmp_path / "a.npz"
    write(path, located() | BROKEN[name])
    with pytest.raises(UserError, match=r"a\.npz: cannot be read"):
        examples.read(path, "localization")


def test_a_file_without_metrics_is_refused(tmp_path):
    values = {key: each for key, each in classified().items() if not key.startswith("metric")}
    with pytest.raises(UserError, match="no metrics"):
        examples.read(write(tmp_path / "a.npz", values), "classification")


def test_a_missing_array_is_named(tmp_path):
    values = segmented()
    del values["prediction.predicted_mask"]
    with pytest.raises(UserError, match=r"prediction\.predicted_mask is missing"):
        examples.read(write(tmp_path / "a.npz", values), "segmentation")
    wrong = segmented(**{"target.mask": np.zeros((6, 8, 11), np.uint8)})
    with pytest.raises(UserError, match=r"target.mask is uint8 \[6, 8, 11\]"):
        examples.read(write(tmp_path / "a.npz", wrong), "segmentation")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 2**20)
    path = write(tmp_path / "a.npz", {"images": np.zeros(2**21, np.uint8), "ids": np.arange(3)})
    with pytest.raises(UserError, match="larger than 1 MiB"):
        arrays.read(path)
    assert arrays.read(path, ("ids",)).keys() == {"ids"}


def predictions(path, pairs, size=3):
    """A predictions file with a (label, predicted class) for each example."""
    labels, guesses = np.array(pairs).T
    logits = np.eye(size, dtype=np.float32)[guesses]
    np.savez_compressed(path, ids=np.arange(len(labels)), label=labels, logits=logits)


def test_the_confusion_matrix_is_summed_over_seeds(tmp_path):
    study = study_of(tmp_path, relu=0.9)
    first, second = (tmp_path / f"relu/seed-{seed}/predictions_validation.npz" for seed in (0, 1))
    predictions(first, [(0, 0), (0, 1), (1, 1), (2, 0)])
    predictions(second, [(0, 0), (0, 1), (0, 0), (2, 0)])
    write(tmp_path / "relu/seed-1/examples_validation.npz", classified())
    shown = section(study)
    assert shown.title == "What the arms get right and wrong"
    assert shown.collapsed
    paragraph, kept, matrix = shown.elements
    assert paragraph == Paragraph(
        "Most confused: cat taken for dog (40.0% of 5 images); a bird of paradise taken for cat "
        "(100.0% of 2 images).",
        "relu.",
    )
    assert kept.caption.startswith("Seed 1: examples of the validation split")
    assert matrix.caption.startswith("2 seeds, validation split")
    numbers = [text for text in texts(matrix.drawing.svg) if text.isdigit()]
    assert numbers == ["60", "40", "100", "100"]


def test_the_matrix_of_masks_leaves_ignored_pixels_out(tmp_path):
    path = tmp_path / "predictions_test.npz"
    truth = np.array([[[0, 1], [IGNORE, 1]], [[1, 1], [0, IGNORE]]], np.uint8)
    guess = np.array([[[0, 0], [1, 1]], [[1, 1], [1, 1]]], np.uint8)
    np.savez(path, mask=truth, predicted_mask=guess)
    matrix = confusion.of_masks(path)
    assert matrix[:2, :2].tolist() == [[1, 1], [1, 3]]
    assert matrix.sum() == 6


def test_logits_that_are_not_finite_are_left_out(tmp_path):
    path = tmp_path / "predictions_test.npz"
    logits = np.array([[0, 1], [np.nan, 0], [1, 0]], np.float32)
    np.savez(path, labels=np.array([0, 1, 0]), logits=logits)  # as older versions named them
    assert confusion.of_labels(path).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    "values",
    [
        {"label": np.arange(4), "logits": np.ones((4, 3), np.float32)},  # a label of 3
        {"label": np.arange(3)},
        {"label": np.arange(3.0), "logits": np.ones((3, 3), np.float32)},
        {"label": np.arange(2), "logits": np.ones((3, 3), np.float32)},
    ],
)
def test_predictions_that_make_no_sense_are_refused(tmp_path, values):
    with pytest.raises(UserError, match="no labels with their logits"):
        confusion.of_labels(write(tmp_path / "a.npz", values))


def test_the_most_confused_come_first_and_ties_by_class():
    matrix = np.array([[9, 2, 0], [2, 9, 5], [0, 0, 9]])
    assert confusion.most_confused(matrix, 2) == [(1, 2), (0, 1)]
    assert confusion.most_confused(matrix, 9) == [(1, 2), (0, 1), (1, 0)]


def test_many_classes_have_no_matrix(tmp_path):
    study = study_of(tmp_path, relu=0.9)
    path = tmp_path / "relu/seed-0/predictions_validation.npz"
    predictions(path, [(0, 0), (20, 7)], size=21)
    write(tmp_path / "relu/seed-0/examples_validation.npz", classified())
    paragraph, _ = section(study).elements
    assert paragraph.text == "Most confused: 20 taken for 7 (100.0% of 1 image)."


def test_segmentation_has_masks_and_a_matrix_of_pixels(tmp_path):
    study = study_of(tmp_path, "segmentation", unet=0.9)
    values = segmented()
    write(tmp_path / "unet/seed-0/examples_validation.npz", values)
    np.savez(
        tmp_path / "unet/seed-0/predictions_validation.npz",
        mask=values["target.mask"],
        predicted_mask=values["prediction.predicted_mask"],
    )
    paragraph, kept, matrix = section(study).elements
    assert "road taken for car (100.0% of 144 pixels)" in paragraph.text
    assert "worst IoU per image" in kept.caption
    assert "car" in texts(matrix.drawing.svg)


@pytest.mark.parametrize(("name", "shown"), [("folder:/home/me/patients", False), ("digits", True)])
def test_a_published_report_shows_no_images_of_a_folder(tmp_path, name, shown):
    overrides = {"relu": {"data.name": name}}
    workdirs.make(tmp_path, {"relu": 0.9}, seeds=2, overrides=overrides)
    write(tmp_path / "relu/seed-0/examples_validation.npz", classified())
    study = reading.load(tmp_path)
    for each, expected in ((study, True), (anonymous.anonymize(study), shown)):
        assert any(isinstance(part, Figure) for part in section(each).elements) is expected


def test_a_damaged_file_leaves_a_picture_out_and_says_so(tmp_path):
    study = study_of(tmp_path, relu=0.9, tanh=0.8)
    for arm in ("relu", "tanh"):
        write(tmp_path / arm / "seed-0/examples_validation.npz", classified())
    path = tmp_path / "relu/seed-0/examples_validation.npz"
    path.write_bytes(path.read_bytes()[:300])
    first, warning, second, figure = section(study).elements
    assert (first.lead, second.lead) == ("relu.", "tanh.")
    assert warning.kind == "warning"
    assert warning.text.startswith("relu/seed-0/examples_validation.npz: cannot be read")
    assert isinstance(figure, Figure)


def test_a_study_without_such_files_has_no_section(tmp_path):
    study = study_of(tmp_path, relu=0.9)
    predictions(tmp_path / "relu/seed-0/predictions_validation.npz", [(0, 0), (0, 1)])
    assert section(study) is None


def test_the_report_has_the_section_after_the_plots(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9}, seeds=2)
    write(tmp_path / "relu/seed-0/examples_validation.npz", classified())
    page = ablation.write(tmp_path).page.read_text()
    assert "<details><summary><h3>What the arms get right and wrong</h3></summary>" in page
    assert page.index("block-1-seeds") < page.index("<details>") < page.index("block-1-arm-1")
    assert "img-src data:" in page
    assert (tmp_path / "figures/block-1-arm-1-examples.svg").is_file()
    assert not (tmp_path / "figures/block-1-arm-1-examples.png").exists()
    assert "block-1-arm-1-examples.svg" in (tmp_path / "report.md").read_text()
    again = ablation.write(tmp_path).page.read_text()
    assert again == page


def test_the_colours_are_distinct():
    assert len({palette.color(number) for number in range(33)}) == 33
    assert palette.table().shape == (256, 3)
    assert tuple(palette.table()[IGNORE]) == ImageColor.getrgb(palette.IGNORED)
    image, mask = np.full((1, 2, 1), 100, np.uint8), np.array([[2, IGNORE]], np.uint8)
    seen = palette.overlay(image, mask)
    assert seen.tolist() == [[[168, 40, 40], [126, 126, 126]]]
