"""Fingerprints of data sets, and how two of them differ."""

import os
import shutil

import pytest
from PIL import Image, ImageChops

from cnnjax import data, fingerprint
from cnnjax.data import content, source


@pytest.fixture
def pictures(picture_folder, tmp_path):
    """A copy of the folder of 2 classes x 15 images that a test may change."""
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder.removeprefix("folder:"), folder)
    with Image.open(folder / "dog" / "03.png") as image:
        image.save(folder / "dog" / "03.png", compress_level=0)
    return folder


def read(folder, make_config, **fields):
    return data.load(make_config(name=f"folder:{folder}", **fields)).fingerprint


def test_reading_twice_or_from_a_copy_with_other_times_gives_the_same(pictures, make_config):
    before = read(pictures, make_config)
    for file in pictures.rglob("*.png"):
        os.utime(file, (1, 1))
    assert read(pictures, make_config) == before
    assert before["class_names"] == "cat, dog"
    assert before["examples"] == {"train": 30}
    assert before["splits"]["test"].startswith("6 of train, ")


def overwrite(folder):
    shutil.copyfile(folder / "cat" / "00.png", folder / "cat" / "01.png")


def change_a_pixel(folder):
    """Same names and sizes, other bytes."""
    with Image.open(folder / "dog" / "03.png") as image:
        turned = ImageChops.invert(image)
    turned.save(folder / "dog" / "03.png", compress_level=0)


def change_a_pixel_and_set_the_time(folder):
    """As programs do that unpack or copy: neither name nor size nor time of the image changes."""
    file = folder / "dog" / "03.png"
    time = file.stat().st_mtime_ns
    change_a_pixel(folder)
    os.utime(file, ns=(time, time))


SIZES = ["examples.train", "content", "splits"]


def rename_a_class(folder):
    (folder / "dog").rename(folder / "emu")


def add_a_class(folder):
    shutil.copytree(folder / "cat", folder / "emu")


def remove_an_image(folder):
    (folder / "cat" / "07.png").unlink()


def move_an_image(folder):
    (folder / "cat" / "07.png").rename(folder / "dog" / "99.png")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (rename_a_class, ["class_names", "content"]),
        (add_a_class, ["class_names", *SIZES]),
        (remove_an_image, SIZES),
        (move_an_image, ["content"]),
        (overwrite, ["content"]),
        (change_a_pixel, ["content"]),
        (change_a_pixel_and_set_the_time, ["content"]),
    ],
)
def test_every_change_of_a_folder_is_named(pictures, make_config, change, fields):
    before = read(pictures, make_config)
    change(pictures)
    phrases = fingerprint.differences(before, read(pictures, make_config))
    names = [phrase.partition(" ")[0] for phrase in phrases]
    assert [name for name in names if not name.startswith("splits.")] == [
        field for field in fields if field != "splits"
    ]
    assert any(name.startswith("splits.") for name in names) == ("splits" in fields)


def test_another_division_is_not_a_difference_of_the_data(pictures, make_config):
    before, after = (read(pictures, make_config, validation_fraction=share) for share in (0.1, 0.3))
    assert before["splits"] != after["splits"]
    assert fingerprint.differences(before, after) == []


def test_size_and_pipeline_are_not_part_of_a_fingerprint(pictures, make_config):
    assert read(pictures, make_config, image_size=8, pipeline="stream") == read(
        pictures, make_config
    )


def test_names_and_sizes_are_digested_if_files_are_too_large(pictures, make_config, monkeypatch):
    monkeypatch.setattr(content, "MAX_BYTES", 100)
    before = read(pictures, make_config)
    assert before["content"].startswith("sizes:")
    change_a_pixel(pictures)
    assert read(pictures, make_config) == before
    (pictures / "cat" / "01.png").write_bytes((pictures / "cat" / "00.png").read_bytes() + b" ")
    assert read(pictures, make_config) != before


def test_digits_are_unchanged(make_config):
    digits = data.load(make_config()).fingerprint
    assert digits["content"] == "sha256:ed5d0ee6d5a61b61"
    assert digits["examples"] == {"train": 1347, "test": 450}


def test_a_prepared_set_has_a_version(shared_datasets):
    cifar10 = source.find("cifar10", str(shared_datasets))
    assert cifar10.version == "3.0.2"
    assert cifar10.content.startswith("sha256:")
    assert source.find("cifar10", str(shared_datasets)) == cifar10


def test_many_classes_are_counted():
    names = fingerprint.names([str(number) for number in range(1000)])
    assert names.startswith("1000 names, digest ")


def test_only_fingerprints_of_one_data_set_are_compared():
    digits = {"name": "digits", "content": "a", "examples": {}}
    assert fingerprint.differences(digits, {"name": "mnist", "content": "b"}) == []
    assert fingerprint.differences(None, digits) == fingerprint.differences(digits, [1]) == []
    assert fingerprint.changed([{"name": "mnist"}, digits], [{**digits, "content": "b"}]) == (
        "digits: content 'a' -> 'b'"
    )
    older = {**digits, "version": "3.0.0"}
    assert fingerprint.differences(older, {**older, "version": "3.0.2"}) == [
        "version '3.0.0' -> '3.0.2'"
    ]
