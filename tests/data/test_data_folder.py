"""Folders of images: what is read, what is an error, and how they are described."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from cnnjax import cache, config, data
from cnnjax.data import content, folder, pictures
from cnnjax.errors import UserError
from common import sizes


@pytest.fixture
def pets(tmp_path):
    """folder:PATH of 2 classes with 10 different grey images each, and its path."""
    make(tmp_path / "pets", {"cat": 10, "dog": 10})
    return f"folder:{tmp_path / 'pets'}", tmp_path / "pets"


def make(root, classes, start=0, **options):
    value = start
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.full((4, 4), value, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
            value += 1


def error_of(make_config, name):
    with pytest.raises(UserError) as caught:
        data.load(make_config(name=name))
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    return str(caught.value)


def test_folder_of_classes(make_config, picture_folder):
    loaded = data.load(make_config(name=picture_folder))
    assert loaded.spec.class_names == ("cat", "dog")
    assert loaded.spec.image_shape == (10, 12, 3)
    assert sizes(loaded) == {"train": 22, "validation": 2, "test": 6}
    marks = np.concatenate([part.images[:, 0, 0, 0] for part in loaded.splits.values()])
    labels = np.concatenate([part.targets["label"] for part in loaded.splits.values()])
    assert sorted(marks) == [*range(15), *range(100, 115)]
    np.testing.assert_array_equal(marks // 100, labels)


def test_sixteen_bits_become_eight_and_hidden_files_are_ignored(tmp_path, make_config):
    for label, name in enumerate(["a", "b"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "._0.png").write_bytes(b"no image")
        for index in range(6):
            pixels = np.full((4, 4), 256 * (10 * label + index) + 7, np.uint16)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    loaded = data.load(make_config(name=f"folder:{tmp_path}"))
    values = sorted(int(image.max()) for split in loaded.splits.values() for image in split.images)
    assert values == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]


def test_folder_with_splits_of_varying_grey_images(tmp_path, make_config):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for label, name in enumerate(["a", "b"]):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.full((6 + index, 9), 200 * label, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    name = f"folder:{tmp_path}"
    for pipeline in ("memory", "stream"):
        with pytest.raises(UserError, match=r"data\.image_size: None, but the images .* differ"):
            data.load(make_config(name=name, pipeline=pipeline))
    loaded = data.load(make_config(name=name, image_size=8))
    assert sizes(loaded) == {"train": 8, "validation": 4, "test": 6}
    assert loaded.spec.image_shape == (8, 8, 1)
    part = loaded.splits["validation"]
    np.testing.assert_array_equal(part.images.max((1, 2, 3)), 200 * part.targets["label"])
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(UserError, match="is not one of the training classes a, b"):
        data.load(make_config(name=name, image_size=8))


def test_wrong_folders(tmp_path, make_config):
    with pytest.raises(UserError, match="is not a folder"):
        data.load(make_config(name=f"folder:{tmp_path}/none"))
    with pytest.raises(UserError, match="holds no images in sub-folders, one for each class"):
        data.load(make_config(name=f"folder:{tmp_path}"))
    make(tmp_path, {"a": 1})
    with pytest.raises(UserError, match="needs images in at least two sub-folders"):
        data.load(make_config(name=f"folder:{tmp_path}"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png: not a readable image"):
        data.load(make_config(name=f"folder:{tmp_path}"))


def test_the_formats_are_listed_if_there_is_no_image(tmp_path, make_config):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"{index}.heic").write_bytes(b"x")
    text = error_of(make_config, f"folder:{tmp_path}")
    assert "allowed: .png, .jpg, .jpeg, .bmp, .gif, .tif, .tiff, .webp, .pgm, .ppm" in text
    assert "there are 4 .heic" in text
    Image.new("L", (4, 4)).save(tmp_path / "a" / "0.png")
    assert "b: holds no images of its class; allowed: .png" in error_of(
        make_config, f"folder:{tmp_path}"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("folder:", "write folder:PATH"),
        ("folder:/nowhere", "'/nowhere' is not a folder"),
        ("folder:" + "x" * 5000, "a name of 5000 bytes; allowed: at most 255"),
        ("folder:a\0b", "has a character that cannot be in a path"),
        ("folder:~no_such_user_here/x", "no home folder is known for it"),
    ],
)
def test_paths_that_are_not_folders(make_config, name, text):
    assert text in error_of(make_config, name)
    assert len(error_of(make_config, name)) < 400


@pytest.mark.parametrize("name", ["new\nline.png", "\x1b[31mred.png", os.fsdecode(b"\xff.png")])
def test_names_that_cannot_be_printed(pets, make_config, name):
    _, path = pets
    Image.new("L", (4, 4)).save(path / "cat" / name)
    assert "has control characters in its name" in error_of(make_config, pets[0])
    (path / "cat" / name).rename(path / name.removesuffix(".png"))
    (path / name.removesuffix(".png")).unlink()
    (path / name.removesuffix(".png")).mkdir()
    assert "has control characters in its name" in error_of(make_config, pets[0])


def test_links_to_files_are_followed_and_other_files_are_errors(pets, make_config, tmp_path):
    name, path = pets
    elsewhere = tmp_path / "elsewhere.png"
    (path / "cat" / "0.png").rename(elsewhere)
    (path / "cat" / "0.png").symlink_to(elsewhere)
    assert sum(sizes(data.load(make_config(name=name))).values()) == 20
    elsewhere.unlink()
    assert "0.png: is a link to a file that does not exist" in error_of(make_config, name)
    (path / "cat" / "0.png").unlink()
    os.mkfifo(path / "cat" / "0.png")
    assert "0.png: has the suffix of an image, but is not a regular file" in error_of(
        make_config, name
    )


def test_a_folder_without_read_permission(pets, make_config, monkeypatch):
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert "dog: cannot be read (Permission denied)" in error_of(make_config, pets[0])


def test_the_header_is_checked_before_anything_is_decoded(pets, make_config, monkeypatch):
    name, path = pets
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(path / "dog" / "last.tif")

    def decoded(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures, "decode", decoded)
    with pytest.raises(UserError, match=r"last\.tif: holds floating-point numbers"):
        data.load(make_config(name=name, image_size=4, pipeline="stream"))


def test_files_are_opened_once_and_again_when_they_change(pets, monkeypatch):
    name, path = pets
    first = folder.read(name)
    inspect, opened = pictures.inspect, []

    def counting(file, hashed):
        opened.append(file)
        return inspect(file, hashed)

    monkeypatch.setattr(pictures, "inspect", counting)
    again = folder.read(name)
    assert not opened
    assert again.content == first.content
    index = first.names.index("cat/3.png")
    content = (path / "cat" / "3.png").read_bytes()
    assert first.contents["sha256"][index].tobytes() == hashlib.sha256(content).digest()
    for file in (cache.root() / "folders").rglob(f"{first.key}/contents.npy"):
        file.write_bytes(file.read_bytes()[:100])
    assert folder.read(name).content == first.content
    assert len(opened) == 20
    Image.new("L", (4, 4), 99).save(path / "cat" / "3.png")
    assert folder.read(name).content != first.content
    assert len(opened) == 40


def test_too_many_bytes_are_not_hashed(pets, monkeypatch):
    monkeypatch.setattr(content, "MAX_BYTES", 100)
    (pets[1] / "dog" / "0.png").write_bytes((pets[1] / "cat" / "0.png").read_bytes())
    images = folder.read(pets[0])
    assert images.content.startswith("sizes:")
    (line,) = (line for line in describe(pets[0]) if "copies" in line)
    assert "copies were not looked for" in line


def describe(name, **fields):
    return [line.strip() for line in data.describe([config.Data(name=name, **fields)])]


def test_a_folder_is_described(pets):
    name, path = pets
    for file in ("notes.txt", "more.txt", ".DS_Store"):
        (path / "cat" / file).write_text("")
    (path / "cat" / ".thumbnails").mkdir()
    Image.new("L", (4, 4)).save(path / "cat" / ".thumbnails" / "0.png")
    Image.new("L", (4, 4)).save(path / "stray.png")
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(path / "dog" / "colour.png")
    Image.fromarray(np.full((4, 4), 513, np.uint16)).save(path / "dog" / "deep.png")
    assert describe(name) == [
        f"{name}: 22 grey images 4x4 in 2 classes",
        "ignored: 2 .txt, 1 .png outside the class folders, 1 .DS_Store, 1 hidden folder",
        "all become grey, as the first one is (cat/0.png); 1 of 22 are in colour",
        "1 of 22 have transparency, which is dropped",
        "1 of 22 have more than 8 bits: the upper 8 of 16 are kept",
        "splits: 20% of the images for test and 10% of the rest for validation, a fixed draw for "
        "all arms and seeds",
        "train validation test",
        "cat     7          1    2",
        "dog     9          1    2",
        "all    16          2    4",
    ]


def test_kinds_of_files_are_counted():
    kinds = {".txt": 3, "other file outside the class folders": 2}
    more = {f".{number}": 1 for number in range(9)}
    assert folder.format_counts(kinds) == "3 .txt, 2 other files outside the class folders"
    assert folder.format_counts(kinds | more).endswith("1 .2, 1 .3, 5 of other kinds")


def test_the_description_counts_the_splits_of_training(pets, make_config):
    name, _ = pets
    for fields in ({}, {"split_seed": 3}, {"validation_fraction": 0.4}):
        count = sizes(data.load(make_config(name=name, **fields)))
        counts = next(line for line in describe(name, **fields) if line.startswith("all"))
        assert counts.split()[1:] == [str(count[part]) for part in ("train", "validation", "test")]
    both = data.describe([make_config(name=name, split_seed=seed) for seed in (1, 2, 2)])
    assert sum(line.startswith("folder:") for line in both) == 1
    assert [line.split(", ")[1] for line in both if "splits:" in line] == [
        "draw 1 (data.split_seed) for all arms and seeds",
        "draw 2 (data.split_seed) for all arms and seeds",
    ]
    assert data.describe([make_config()]) == []


def test_copies_in_several_classes_or_splits_are_warnings(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        make(tmp_path / split, {"cat": 3, "dog": 3}, start=10 * number)
    copies = {"train/dog/9.png": "train/cat/1.png", "test/cat/8.png": "train/cat/2.png"}
    for copy, original in copies.items():
        (tmp_path / copy).write_bytes((tmp_path / original).read_bytes())
    (tmp_path / "extra").mkdir()
    lines = describe(f"folder:{tmp_path}")
    assert "ignored: 1 unused folder" in lines
    assert "splits: the folder's own" in lines
    assert [line for line in lines if "warning" in line] == [
        "warning: 1 image lies in several classes as 2 files, such as train/cat/1.png and "
        "train/dog/9.png",
        "warning: 1 image lies in several splits as 2 files, such as test/cat/8.png (test) and "
        "train/cat/2.png (train); remove the copies or keep them together with a groups.csv",
    ]


def test_many_classes_are_summarized(tmp_path):
    make(tmp_path, {f"c{label:02d}": 2 + label % 2 for label in range(20)})
    lines = describe(f"folder:{tmp_path}")
    assert len(lines) == 8
    assert "train: 36 images, 0 to 3 of a class" in lines
    assert any("warning: test has no images of c" in line and "more" in line for line in lines)


def test_names_of_splits_may_be_capitals(tmp_path):
    make(tmp_path / "Train", {"a": 3, "b": 3})
    make(tmp_path / "TEST", {"a": 1, "b": 1}, start=9)
    images = folder.read(f"folder:{tmp_path}")
    assert images.class_names == ("a", "b")
    assert set(images.splits) == {"train", "test"}
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="is a second folder for the split test"):
        folder.read(f"folder:{tmp_path}")


def grouped(path, rows, header="file,group"):
    (path / "groups.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_group_is_never_divided_between_splits(pets, make_config):
    name, path = pets
    before = data.load(make_config(name=name))
    names = [f"{pet}/{index}.png" for pet in ("cat", "dog") for index in range(10)]
    group_of = {file: f"patient {number // 3}" for number, file in enumerate(names)}
    grouped(path, [f"{file},{group},ignored" for file, group in group_of.items()], "file,group,x")
    for fields in ({}, {"split_seed": 1}, {"split_seed": 2}):
        loaded = data.load(make_config(name=name, **fields))
        values = {part: {int(image.max()) for image in split.images}
                  for part, split in loaded.splits.items()}  # fmt: skip
        groups = {part: {group_of[names[i]] for i in indices} for part, indices in values.items()}
        assert sum(map(len, groups.values())) == len(set(group_of.values())) == 7
        assert 4 <= sizes(loaded)["test"] <= 6
        assert 2 <= sizes(loaded)["validation"] <= 4
    assert any("by the 7 groups of groups.csv" in line for line in describe(name))
    (path / "groups.csv").unlink()
    after = data.load(make_config(name=name))
    for part, split in before.splits.items():
        np.testing.assert_array_equal(split.ids, after.splits[part].ids)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "needs a first line with the columns file,group"),
        (b"file;group\ncat/0.png;1\n", "needs a first line with the columns file,group"),
        (b"file,group\ncat/0.png\n", "line 2 lacks a file or a group"),
        (b"file,group\ncat/0.png,1\ncat/0.png,2\n", "line 3: 'cat/0.png' has two groups"),
        (b"file,group\ncat/0.png,1\n", "names no group for 'cat/1.png'; every image needs one"),
        (b"file,group\n\xff,1\n", "is no table in UTF-8"),
        (b'file,group\n"cat/0.png,1\n', "is no table in UTF-8"),
        (b"file,group\n" + b"x" * 200_000 + b",1\n", "is no table in UTF-8"),
    ],
)
def test_tables_of_groups_that_do_not_fit(pets, make_config, content, text):
    name, path = pets
    (path / "groups.csv").write_bytes(content)
    assert f"{path / 'groups.csv'}: {text}" in error_of(make_config, name)


def test_groups_in_a_folder_with_splits(tmp_path, make_config):
    for number, split in enumerate(("train", "test")):
        make(tmp_path / split, {"cat": 4, "dog": 4}, start=10 * number)
    names = [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*.png"))]
    grouped(tmp_path, [f"{name},{name[:5]}{index // 2}" for index, name in enumerate(names)])
    loaded = data.load(make_config(name=f"folder:{tmp_path}"))
    assert sizes(loaded) == {"train": 6, "validation": 2, "test": 8}
    grouped(tmp_path, [f"{name},{name[-5]}" for name in names])
    text = error_of(make_config, f"folder:{tmp_path}")
    assert "the group '0' is in test and in train; 'train/cat/0.png' is one of its images" in text
    os.unlink(tmp_path / "groups.csv")
    os.mkfifo(tmp_path / "groups.csv")
    assert "groups.csv: cannot be read (not a regular file)" in error_of(
        make_config, f"folder:{tmp_path}"
    )


def test_another_draw_of_the_splits_has_another_mean(pets, make_config):
    name, _ = pets
    loaded = [data.load(make_config(name=name, split_seed=seed)) for seed in (None, 1, 2)]
    for draw in loaded:
        train = draw.splits["train"].images / 255
        np.testing.assert_allclose(draw.spec.mean, train.mean((0, 1, 2)))
        streamed = data.load(draw.config.model_copy(update={"pipeline": "stream"}))
        np.testing.assert_allclose(streamed.spec.mean, draw.spec.mean)
    tests = [tuple(draw.splits["test"].ids) for draw in loaded]
    assert len(set(tests)) == 3
