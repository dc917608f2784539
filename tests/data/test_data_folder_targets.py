"""Folders of images with masks or boxes: what is read, and what is an error."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cnnjax import data, fingerprint
from cnnjax.data import annotations, boxes, folder_targets, pictures
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError
from common import program, sizes

HEIGHT, WIDTH = 6, 8
HEADER = "filename,label,xmin,ymin,xmax,ymax"


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def picture(number):
    return np.full((HEIGHT, WIDTH, 3), number, np.uint8)


def mask(number, values=(0, 1, 2)):
    """Values that differ from mask to mask; every value occurs in each."""
    indices = (np.arange(HEIGHT * WIDTH) + number) % len(values)
    return np.array(values, np.uint8)[indices].reshape(HEIGHT, WIDTH)


@pytest.fixture
def masked(tmp_path):
    """A folder of 20 images with masks of the values 0, 1 and 2."""
    for number in range(20):
        save(tmp_path / "images" / f"{number:02d}.png", picture(number))
        save(tmp_path / "labels" / f"{number:02d}.png", mask(number))
    return tmp_path


def table(root, rows, header=HEADER):
    (root / "annotations.csv").write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def boxed(tmp_path):
    """A folder of 20 images with a cat or a dog each; every third has another, smaller cat."""
    rows = []
    for number in range(20):
        save(tmp_path / "images" / f"{number:02d}.png", picture(number))
        label = "dog" if number % 2 else "cat"
        if number % 3 == 0:
            rows.append(f"{number:02d}.png,cat,0,0,2,2")
        rows.append(f"{number:02d}.png,{label},{number % 4},1,{4 + number % 4},5")
    table(tmp_path, rows)
    return tmp_path


def load(root, make_config, **fields):
    return data.load(make_config(name=f"folder:{root}", **fields))


def by_number(loaded):
    """{number of the image: its targets} of all splits."""
    return {
        int(image.max()): {name: values[i] for name, values in part.targets.items()}
        for part in loaded.splits.values()
        for i, image in enumerate(part.images)
    }


def test_masks_of_values(masked, make_config):
    loaded = load(masked, make_config)
    spec = loaded.spec
    assert (spec.targets, spec.mask_names) == (("mask",), ("0", "1", "2"))
    assert (spec.num_classes, spec.class_names) == (0, ())
    assert sizes(loaded) == {"train": 14, "validation": 2, "test": 4}
    found = by_number(loaded)
    assert len(found) == 20
    for number, targets in found.items():
        np.testing.assert_array_equal(targets["mask"], mask(number))
    assert sum(spec.mask_pixels) == spec.mask_present[0] == 14 * HEIGHT * WIDTH
    streamed = load(masked, make_config, pipeline="stream")
    assert streamed.spec == spec
    for name, part in loaded.splits.items():
        np.testing.assert_array_equal(part.targets["mask"], streamed.splits[name].targets["mask"])


def test_the_indices_of_a_palette_are_the_values(masked, make_config):
    plain = by_number(load(masked, make_config))
    for file in (masked / "labels").iterdir():
        indices = np.asarray(Image.open(file))
        painted = Image.fromarray(indices, "P")
        painted.putpalette([255, 0, 0, 255, 0, 0, 7, 8, 9])  # two classes of one colour
        painted.save(file, transparency=1)
    for number, targets in by_number(load(masked, make_config)).items():
        np.testing.assert_array_equal(targets["mask"], plain[number]["mask"])


def test_names_of_classes_and_pixels_that_are_not_known(masked, make_config):
    """Line 1 is a class that is not known: line 2 becomes class 1. So does the value 255."""
    for number in range(20):
        save(masked / "labels" / f"{number:02d}.png", mask(number, (0, 1, 2, 255)))
    (masked / "classes.txt").write_text("sky\r\n Void \ntree\n\n")
    loaded = load(masked, make_config)
    assert loaded.spec.mask_names == ("sky", "tree")
    new = np.array([0, IGNORE, 1])
    for number, targets in by_number(loaded).items():
        values = mask(number, (0, 1, 2, 255))
        np.testing.assert_array_equal(
            targets["mask"], np.where(values == 255, IGNORE, new[values.clip(0, 2)])
        )
    (masked / "classes.txt").unlink()
    assert load(masked, make_config).spec.mask_names == ("0", "1", "2")


def test_values_without_names_become_classes_in_their_order(masked, make_config):
    for number in range(20):
        save(masked / "labels" / f"{number:02d}.png", mask(number, (40, 7)))
    loaded = load(masked, make_config)
    assert loaded.spec.mask_names == ("7", "40")
    for number, targets in by_number(loaded).items():
        np.testing.assert_array_equal(targets["mask"], mask(number, (40, 7)) == 40)


def test_folders_of_splits_and_masks_in_masks(masked, make_config):
    for split, numbers in (("train", range(10)), ("val", range(10, 14)), ("test", range(14, 20))):
        for number in numbers:
            save(
                masked / split / "images" / "a" / f"{number:02d}.jpg", picture(number), quality=100
            )
            save(masked / split / "masks" / "a" / f"{number:02d}.png", mask(number))
    shutil.rmtree(masked / "images")
    shutil.rmtree(masked / "labels")
    loaded = load(masked, make_config)
    assert sizes(loaded) == {"train": 10, "validation": 4, "test": 6}
    assert loaded.spec.mask_names == ("0", "1", "2")
    for number, targets in by_number(loaded).items():
        np.testing.assert_array_equal(targets["mask"], mask(number))


def test_boxes_of_a_table(boxed, make_config):
    """The largest is the target, wherever it is in the table."""
    loaded = load(boxed, make_config)
    spec = loaded.spec
    assert (spec.targets, spec.class_names, spec.mask_names) == (
        ("label", "box"),
        ("cat", "dog"),
        (),
    )
    found = by_number(loaded)
    assert len(found) == 20
    for number, targets in found.items():
        assert targets["label"] == number % 2
        left = number % 4
        edges = np.array([left, 1, left + 4, 5]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(boxes.to_corners(targets["box"]), edges, atol=1e-7)
        assert targets["box"].dtype == np.float32
    streamed = load(boxed, make_config, pipeline="stream")
    for name, part in loaded.splits.items():
        for target, values in part.targets.items():
            np.testing.assert_array_equal(values, streamed.splits[name].targets[target])


def test_splits_of_a_table(boxed, make_config):
    splits = ["Test", "train", "val", "train"] * 5
    rows = [f"{split},{n:02d}.png,cat,0,0,3,3,6,8" for n, split in enumerate(splits)]
    table(boxed, rows, f"split,{HEADER},height,width")
    loaded = load(boxed, make_config)
    assert sizes(loaded) == {"train": 10, "validation": 5, "test": 5}
    assert [int(image.max()) for image in loaded.splits["test"].images] == [*range(0, 20, 4)]
    table(boxed, [*rows, "val,00.png,cat,0,0,3,3,6,8"], f"split,{HEADER},height,width")
    assert "line 22: '00.png' is in two splits" in error_of(boxed, make_config)
    table(boxed, [rows[0].replace("Test", "tran"), *rows[1:]], f"split,{HEADER},height,width")
    assert "line 2: split: unknown 'tran'. Did you mean 'train'?" in error_of(boxed, make_config)


VOC = """<annotation><filename>elsewhere.jpg</filename><size><width>8</width><height>6</height>
<depth>3</depth></size>
<object><name>small</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
</object>
<object><name>large</name><bndbox><xmax>7</xmax><ymin>1.5</ymin><xmin>1</xmin><ymax>6</ymax></bndbox>
<part><name>head</name></part></object></annotation>"""


@pytest.mark.parametrize("beside", ["annotations", "images"])
def test_boxes_of_pascal_voc(boxed, make_config, beside):
    (boxed / "annotations.csv").unlink()
    (boxed / beside).mkdir(exist_ok=True)
    for number in range(20):
        (boxed / beside / f"{number:02d}.xml").write_text(VOC)
    loaded = load(boxed, make_config)
    assert loaded.spec.class_names == ("large",)
    for targets in by_number(loaded).values():
        np.testing.assert_allclose(
            boxes.to_corners(targets["box"]), [1 / 8, 1.5 / 6, 7 / 8, 1], rtol=1e-6
        )
    assert not folder_targets.read(f"folder:{boxed}").ignored


BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (BOMB.encode(), "has a document type (DOCTYPE), which annotations do not need"),
        (BOMB.encode("utf-16"), "is not text in UTF-8"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
        (b"<annotation>", "is not XML"),
        (b"", "is not XML"),
        (b"\x00", "is not XML"),
        (VOC.replace("large", " ").encode(), "an object lacks the name of its class"),
        (VOC.replace("<xmin>1<", "<xmin><").encode(), "xmin: '' is not a number"),
        (b"<a>" * 100_000, "is not XML"),
    ],
)
def test_damaged_xml(boxed, make_config, content, text):
    (boxed / "annotations.csv").unlink()
    (boxed / "annotations").mkdir()
    for number in range(20):
        (boxed / "annotations" / f"{number:02d}.xml").write_text(VOC)
    (boxed / "annotations" / "05.xml").write_bytes(content)
    assert f"{boxed}/annotations/05.xml: {text}" in error_of(boxed, make_config)
    assert set(by_number(load(boxed, make_config, skip_bad=True))) == set(range(20)) - {5}


def test_xml_in_another_declared_encoding_is_read_as_it_was_checked(boxed, make_config):
    (boxed / "annotations.csv").unlink()
    (boxed / "annotations").mkdir()
    for number in range(20):
        declared = f'<?xml version="1.0" encoding="latin-1"?>{VOC}'.replace("large", "né")
        (boxed / "annotations" / f"{number:02d}.xml").write_text(declared, encoding="utf-8")
    assert load(boxed, make_config).spec.class_names == ("né",)


@pytest.mark.parametrize(
    ("header", "row", "text"),
    [
        ("filename,label,xmin,ymin,xmax", "", "has no column 'ymax'; needs a first line with"),
        (HEADER, ",cat,0,0,1,1", "line 22 lacks the name of a file"),
        (HEADER, '"00.png', "is no table"),
    ],
)
def test_damaged_tables(boxed, make_config, header, row, text):
    table(boxed, [*[f"{n:02d}.png,cat,0,0,3,3" for n in range(20)], row], header)
    assert f"{boxed}/annotations.csv: {text}" in error_of(boxed, make_config)
    (boxed / "annotations.csv").write_bytes(b"\xff")
    assert "annotations.csv: is not text in UTF-8" in error_of(boxed, make_config)


def test_classes_that_cannot_be_used(masked, make_config):
    for content, text in (
        ("a\nb\n\nc", "line 3 is no name of a class: ''"),
        ("a\nb\na", "line 3: 'a' is named twice"),
        ("a\nb\x1b\nc", r"line 2 is no name of a class: 'b\x1b'"),
        ("\n".join(map(str, range(256))), "names 256 classes; allowed: at most 255"),
    ):
        (masked / "classes.txt").write_text(content)
        assert f"{masked}/classes.txt: {text}" in error_of(masked, make_config)
    (masked / "classes.txt").write_text("a\nvoid\nignore")
    assert "the masks have fewer than two classes (a); the value 255" in error_of(
        masked, make_config
    )


def error_of(root, make_config, **fields):
    with pytest.raises(UserError) as caught:
        load(root, make_config, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def smaller_mask(root):
    save(root / "labels" / "03.png", np.zeros((HEIGHT, WIDTH - 1), np.uint8))
    return f"{root}/labels/03.png: is 6x7, but its image is 6x8."


def value_outside(root):
    (root / "classes.txt").write_text("a\nb\nc\n")
    save(root / "labels" / "03.png", mask(3, (0, 1, 9)))
    return (
        f"{root}/labels/03.png: has the value 9; allowed: 0 to 2, the lines of classes.txt, and "
        "255."
    )


def no_mask(root):
    (root / "labels" / "03.png").unlink()
    return f"{root}/images/03.png: has no mask."


def no_image(root):
    (root / "images" / "03.png").unlink()
    return f"{root}/labels/03.png: has no image."


def torn_mask(root):
    path = root / "labels" / "03.png"
    path.write_bytes(path.read_bytes()[:60])
    return f"{path}: not a readable image"


def coloured_mask(root):
    save(root / "labels" / "03.png", picture(3))
    return f"{root}/labels/03.png: holds colours (mode RGB), not the classes of pixels"


def deep_mask(root):
    save(root / "labels" / "03.png", np.full((HEIGHT, WIDTH), 300, np.uint16))
    return f"{root}/labels/03.png: holds values from 300 to 300; allowed in a mask: 0 to 255."


def jpeg_mask(root):
    (root / "labels" / "03.png").unlink()
    save(root / "labels" / "03.jpg", mask(3))
    return f"{root}/labels/03.jpg: is a JPEG, which does not keep values; save masks as PNG."


def torn_image(root):
    (root / "images" / "03.png").write_bytes(b"no image")
    return f"{root}/images/03.png: not a readable image"


BAD_MASKS = [smaller_mask, value_outside, no_mask, no_image, torn_mask, coloured_mask, deep_mask,
             jpeg_mask, torn_image]  # fmt: skip


def box(*edges):
    return f"the box ({', '.join(map('{} {}'.format, annotations.EDGES, edges))}) is"


def with_row(root, row):
    rows = [f"{number:02d}.png,cat,0,0,3,3" for number in range(20) if number != 3]
    table(root, [*rows, row])
    return f"{root}/annotations.csv: line 21"


NO_CLASS = "an object lacks the name of its class."
BAD_ROWS = {
    "03.png,cat,1,1,8.6,5": f"{box(1, 1, 8.6, 5)} outside the image; ROOT/images/03.png is 8 wide",
    "03.png,cat,1,-0.6,4,5": f"{box(1, -0.6, 4, 5)} outside",
    "03.png,cat,4,1,4,5": f"{box(4, 1, 4, 5)} empty",
    "03.png,cat,8,1,8.4,5": f"{box(8, 1, 8.4, 5)} outside",
    "03.png,cat,one,1,4,5": "xmin: 'one' is not a number.",
    "03.png,cat,0,1,4,inf": "ymax: 'inf' is not a number.",
    "03.png,,0,1,4,5": NO_CLASS,
    "03.png,\x1b[31m,0,1,4,5": NO_CLASS,
}


@pytest.mark.parametrize(("row", "text"), BAD_ROWS.items())
def test_bad_rows(boxed, make_config, row, text):
    check_bad(
        boxed, make_config, lambda root: f"{with_row(root, row)}: {text}".replace("ROOT", f"{root}")
    )


def no_annotation(root):
    with_row(root, "")
    return f"{root}/images/03.png: has no annotation."


def no_such_image(root):
    where = with_row(root, "33.png,cat,1,1,4,5")
    (root / "images" / "03.png").unlink()
    return f"{where}: there is no image '33.png' in {root}/images."


def another_size(root):
    rows = [f"{number:02d}.png,cat,0,0,3,3,{16 if number == 3 else 8},6" for number in range(20)]
    table(root, rows, f"{HEADER},width,height")
    return f"{root}/annotations.csv: line 5: is for an image of 6x16, but {root}/images/03.png"


BAD_BOXES = [no_annotation, no_such_image, another_size]


@pytest.mark.parametrize("change", BAD_MASKS)
def test_bad_masks(masked, make_config, change):
    check_bad(masked, make_config, change)


@pytest.mark.parametrize("change", BAD_BOXES)
def test_bad_boxes(boxed, make_config, change):
    check_bad(boxed, make_config, change)


def check_bad(root, make_config, change):
    """One line with the file; with skip_bad the others are used, and the note says which not."""
    text = change(root)
    error = error_of(root, make_config)
    assert text in error
    assert error.endswith("(data.skip_bad=true leaves out the bad example.)")
    assert error_of(root, make_config) == error, "again from the cache"
    loaded = load(root, make_config, skip_bad=True)
    assert set(by_number(loaded)) == set(range(20)) - {3}
    lines = describe(root, make_config)
    place = lines.index("note: 1 example left out (data.skip_bad):")
    assert lines[place + 1].startswith(text.replace(f"{root}/", ""))
    assert loaded.fingerprint["left_out"].startswith("1 example, digest ")
    assert loaded.fingerprint["examples"] == {"train": 19}


def describe(root, make_config):
    config = make_config(name=f"folder:{root}", skip_bad=True)
    return [line.strip() for line in data.describe([config])]


def test_an_image_that_is_torn_after_its_header_is_left_out(masked, make_config):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    save(masked / "images" / "03.png", pixels)
    torn = masked / "images" / "03.png"
    torn.write_bytes(torn.read_bytes()[:100])
    error = error_of(masked, make_config)
    assert f"{torn}: not a readable image" in error
    assert error.endswith("(data.skip_bad=true leaves it out.)")
    assert set(by_number(load(masked, make_config, skip_bad=True))) == set(range(20)) - {3}


def test_several_bad_examples_are_counted_and_listed(masked, make_config):
    for number in range(7):
        (masked / "labels" / f"{number:02d}.png").unlink()
    error = error_of(masked, make_config)
    assert error.startswith(f"{masked}/images/00.png: has no mask.")
    assert error.endswith("(data.skip_bad=true leaves out all 7 bad examples.)")
    lines = describe(masked, make_config)
    assert lines[0].endswith("13 colour images 6x8 with masks of 3 classes")
    assert lines[1:9] == [
        "note: 7 examples left out (data.skip_bad):",
        *(f"images/{number:02d}.png: has no mask." for number in range(7)),
    ]


def test_masks_without_a_known_pixel_are_refused(masked, make_config):
    (masked / "classes.txt").write_text("background\nobject\n")
    for mask in (masked / "labels").iterdir():
        save(mask, np.full((HEIGHT, WIDTH), IGNORE, np.uint8))
    assert "no pixel for training has a known class" in error_of(masked, make_config)


def test_nothing_is_left_out_of_good_data(masked, make_config):
    plain, skipped = load(masked, make_config), load(masked, make_config, skip_bad=True)
    assert plain.fingerprint == skipped.fingerprint
    assert "left_out" not in plain.fingerprint


def test_boxes_may_be_off_by_a_rounding(boxed, make_config):
    with_row(boxed, "03.png,cat,-0.5,-0.2,8.5,6.4")
    found = by_number(load(boxed, make_config))
    np.testing.assert_allclose(found[3]["box"], [0.5, 0.5, 1, 1])


def test_bad_data_ends_a_program_with_code_2(masked):
    text = smaller_mask(masked)
    done = program("launch.prepare", f"--data=folder:{masked}", check=2)
    assert done.stderr.startswith(f"error: {text}")
    assert done.stderr.count("\n") == 1


def test_folders_that_hold_nothing_to_predict(masked, make_config):
    shutil.rmtree(masked / "labels")
    (masked / "labels").mkdir()
    assert "no image has a mask or a box" in error_of(masked, make_config)
    (masked / "masks").mkdir()
    assert "masks: is a second folder of masks, beside labels" in error_of(masked, make_config)


def test_names_that_are_not_unique(masked, make_config):
    save(masked / "images" / "03.jpg", picture(3))
    assert "images/03.png: has the same name as 03.jpg" in error_of(masked, make_config)


def test_a_changed_mask_is_not_served_from_a_cache(masked, make_config):
    for fields in ({}, {"image_size": 4}, {"pipeline": "stream"}):
        before = load(masked, make_config, **fields)
        path = masked / "labels" / "03.png"
        time, old = path.stat().st_mtime_ns, np.asarray(Image.open(path))
        save(path, (old + 1) % 3)
        os.utime(path, ns=(time, time))  # as programs do that unpack
        after = load(masked, make_config, **fields)
        changes = fingerprint.differences(before.fingerprint, after.fingerprint)
        assert [change.split()[0] for change in changes] == ["content"]
        assert sum(
            not np.array_equal(new, before.splits[name].targets["mask"][i])
            for name, part in after.splits.items()
            for i, new in enumerate(part.targets["mask"])
        ) == 1  # fmt: skip


def test_changed_annotations_and_names_are_noticed(boxed, masked, make_config):
    """Here a folder has masks and boxes: images have both."""
    before = load(masked, make_config)
    assert before.spec.targets == ("label", "box", "mask")
    (masked / "classes.txt").write_text("a\nb\nc\n")
    named = load(masked, make_config)
    text = (boxed / "annotations.csv").read_text()
    (boxed / "annotations.csv").write_text(text.replace("03.png,dog,3,", "03.png,dog,2,"))
    changed = load(masked, make_config)
    differences = fingerprint.differences(before.fingerprint, named.fingerprint)
    assert [change.split()[0] for change in differences] == ["content", "mask_names"]
    differences = fingerprint.differences(named.fingerprint, changed.fingerprint)
    assert [change.split()[0] for change in differences] == ["content"]
    assert not np.array_equal(by_number(named)[3]["box"], by_number(changed)[3]["box"])


def test_files_are_opened_once(masked, monkeypatch):
    first = folder_targets.read(f"folder:{masked}")
    monkeypatch.setattr(pictures, "read_mask", None)
    monkeypatch.setattr(pictures, "inspect", None)
    assert folder_targets.read(f"folder:{masked}").content == first.content


def test_a_group_is_never_divided_between_splits(masked, make_config):
    rows = [f"images/{number:02d}.png,{number // 4}" for number in range(20)]
    (masked / "groups.csv").write_text("\n".join(["file,group", *rows]) + "\n")
    loaded = load(masked, make_config)
    groups = [{int(i.max()) // 4 for i in part.images} for part in loaded.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5


def test_classes_called_images_are_still_classes(tmp_path, make_config):
    for number in range(20):
        save(tmp_path / ("images" if number % 2 else "drawings") / f"{number}.png", picture(number))
    assert load(tmp_path, make_config).spec.class_names == ("drawings", "images")


def test_camvid(shared_datasets, make_config):
    """Its description gives the shares of the classes: sky .168, road .318, unlabelled .040."""
    path = shared_datasets / "camvid"
    if not path.is_dir():
        pytest.skip(f"no CamVid in {shared_datasets}")
    loaded = load(path, make_config)
    assert sizes(loaded) == {"train": 367, "validation": 101, "test": 233}
    spec = loaded.spec
    assert spec.image_shape == (180, 240, 3)
    assert spec.mask_names[:4] == ("sky", "building", "pole", "road")
    assert len(spec.mask_names) == 11
    shares = np.array(spec.mask_pixels) / (367 * 180 * 240)
    np.testing.assert_allclose(shares[[0, 3]], [0.168, 0.318], atol=6e-4)
    np.testing.assert_allclose(1 - shares.sum(), 0.040, atol=6e-4)
    first = path / "train" / "labels" / "0001TP_006690.png"
    values = np.asarray(Image.open(first))
    expected = np.where(values == 11, IGNORE, values)
    np.testing.assert_array_equal(loaded.splits["train"].targets["mask"][0], expected)


@pytest.mark.parametrize(
    ("name", "counts", "classes"),
    [
        ("raccoon", {"train": 144, "validation": 16, "test": 40}, ("raccoon",)),
        ("bccd", {"train": 205, "validation": 87, "test": 72}, ("Platelets", "RBC", "WBC")),
    ],
)
def test_boxes_of_photographs(shared_datasets, make_config, name, counts, classes):
    path = shared_datasets / name
    if not path.is_dir():
        pytest.skip(f"no {name} in {shared_datasets}")
    loaded = load(path, make_config, image_size=48)
    assert sizes(loaded) == counts
    assert loaded.spec.class_names == classes
    for part in loaded.splits.values():
        assert (boxes.area(part.targets["box"]) > 0).all()
    if name == "raccoon":  # raccoon-1.jpg, 256x164: 31.90,34.61,205.59,160.46
        (index,) = np.flatnonzero(np.isclose(loaded.splits["train"].targets["box"][:, 2],
                                             (205.59 - 31.90) / 256, atol=1e-6))  # fmt: skip
        np.testing.assert_allclose(
            boxes.to_corners(loaded.splits["train"].targets["box"][index]),
            [31.90 / 256, 34.61 / 164, 205.59 / 256, 160.46 / 164],
            atol=1e-6,
        )
