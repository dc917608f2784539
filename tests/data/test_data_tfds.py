"""Prepared TFDS directories that are damaged or would run code, and unknown names."""

import json
import os
import sys

import pytest

from cnnjax.data import source, tfds_source
from cnnjax.errors import UserError

IMAGE = "tensorflow_datasets.core.features.image_feature.Image"
LABEL = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"


def features(image=IMAGE, classes="3", shape=("4", "4", "1")):
    dimensions = {"dtype": "uint8", "shape": {"dimensions": list(shape)}}
    inner = {
        "image": {"pythonClassName": image, "image": dimensions},
        "label": {"pythonClassName": LABEL, "classLabel": {"numClasses": classes}},
    }
    return {"pythonClassName": DICT, "featuresDict": {"features": inner}}


@pytest.fixture
def prepared(tmp_path):
    """A function that writes a prepared directory, which holds no examples, and returns it."""

    def write(**contents):
        directory = tmp_path / "food101" / "2.0.0"
        directory.mkdir(parents=True, exist_ok=True)
        info = {"name": "food101", "version": "2.0.0", "fileFormat": "array_record", "splits": []}
        for name, content in {"dataset_info": info, "features": features(), **contents}.items():
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            (directory / f"{name}.json").write_bytes(content)
        return directory

    return write


def error_of(tmp_path):
    with pytest.raises(UserError) as caught:
        source.find("food101", str(tmp_path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory_without_examples_has_no_train_split(tmp_path, prepared):
    prepared()
    assert "has no split 'train'" in error_of(tmp_path)


@pytest.mark.parametrize(
    "evil",
    [
        features(image="planted_module.Image"),
        {"type": "planted_module.Image", "content": {}},
        {"python_class_name": "planted_module.Image", "image": {}},
        {
            "pythonClassName": DICT,
            "jsonFeature": {"json": json.dumps({"a": {"type": "planted_module.X", "content": {}}})},
        },
        {
            "type": DICT,
            "content": {"type": {"type": "planted_module.Image", "content": {}}},
        },
        features(image="tensorflow_datasets.core.features..planted_module.Image"),
        features(image="tensorflow_datasets.core.features.x\nplanted_module.Image"),
    ],
)
def test_no_module_is_imported_because_a_file_names_it(tmp_path, prepared, monkeypatch, evil):
    (tmp_path / "planted_module.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    directory = prepared(features=evil)
    assert f"{directory}/features.json: asks for" in error_of(tmp_path)
    assert "planted_module" not in sys.modules


def test_features_of_tfds_pass_whatever_they_are_called(tmp_path, prepared):
    value = features()
    value["featuresDict"]["features"]["type"] = {"pythonClassName": IMAGE, "image": {}}
    legacy = {"type": DICT, "content": {"type": {"type": LABEL, "content": {"num_classes": 2}}}}
    for allowed in (value, legacy, {"description": "[is no JSON"}):
        tfds_source.check_files(prepared(features=allowed))


@pytest.mark.parametrize("name", ["dataset_info", "features"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b'{"name": 1e999}'],
)
def test_damaged_json_is_one_line(tmp_path, prepared, name, content):
    prepared(**{name: content})
    assert len(error_of(tmp_path)) < 1000


def test_json_strings_nested_too_deeply(tmp_path, prepared):
    directory = prepared(features={"jsonFeature": {"json": "[" * 100_000}})
    assert f"{directory}/features.json: is nested too deeply" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"classes": "1000000000000"}, "has 1000000000000 classes; allowed: 1 to 1,000,000"),
        ({"classes": "-5"}, "classes; allowed: 1 to 1,000,000"),
        ({"shape": ("4", "4")}, "shape"),
    ],
)
def test_features_that_no_data_set_has(tmp_path, prepared, changes, text):
    prepared(features=features(**changes))
    assert text in error_of(tmp_path)


def test_a_set_without_one_label_per_image_is_an_error(tmp_path, prepared):
    value = features()
    label = "tensorflow_datasets.core.features.scalar.Scalar"
    value["featuresDict"]["features"]["label"] = {"pythonClassName": label, "tensor": {
        "shape": {}, "dtype": "int64", "encoding": "none"}}  # fmt: skip
    prepared(features=value)
    assert "data.name: 'food101' is not an image-classification set" in error_of(tmp_path)


def test_class_names_that_cannot_be_printed(tmp_path, prepared):
    directory = prepared()
    (directory / "label.labels.txt").write_text("a\nb\x1b[31m\nc\n")
    assert r"'b\x1b[31m' is not valid as the name of a class" in error_of(tmp_path)


def test_files_that_are_not_regular_are_errors(tmp_path, prepared):
    directory = prepared()
    os.mkfifo(directory / "food101-train.array_record-00000-of-00001")
    assert "array_record-00000-of-00001: is not a regular file" in error_of(tmp_path)
    (directory / "food101-train.array_record-00000-of-00001").unlink()
    (directory / "features.json").unlink()
    (directory / "features.json").symlink_to(tmp_path / "nowhere")
    assert "features.json: is not a regular file" in error_of(tmp_path)


def test_a_directory_without_read_permission(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "is_file", denied)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        tfds_source.version("food101", tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"), [("cifar-10", "Did you mean 'cifar10'"), ("../../x", "All names: ")]
)
def test_an_unknown_name_is_an_error_with_the_nearest_name(name, hint):
    with pytest.raises(UserError, match=f"data.name: '{name}' is unknown to .*{hint}"):
        source.prepare(name)
