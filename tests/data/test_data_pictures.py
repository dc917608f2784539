"""Which image files are read, and how their pixels become 8 bits."""

import io
import os
import socket
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import pictures
from cnnjax.errors import UserError

RED, GREY_OF_RED = [255, 0, 0], 76  # ITU-R 601-2: 0.299 * 255


def saved(path, image, **options):
    image.save(path, **options)
    return path


def error_of(path):
    with pytest.raises(UserError) as caught:
        pictures.read(path, 3)
    with pytest.raises(UserError) as inspected:
        pictures.inspect(path, hashed=True)
    for error in (caught, inspected):
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    return str(inspected.value)


def palette(transparency=None):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, *RED])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def transparent_grey():
    return Image.merge("LA", [Image.new("L", (3, 2), 40), Image.new("L", (3, 2), 7)])


@pytest.mark.parametrize(
    ("name", "image", "colour"),
    [
        ("bits.png", Image.new("1", (3, 2), 1), [255] * 3),
        ("grey.png", Image.new("L", (3, 2), 40), [40] * 3),
        ("grey_alpha.png", transparent_grey(), [40] * 3),
        ("palette.png", palette(), RED),
        ("transparent.png", palette(bytes([0, 0])), RED),
        ("palette.gif", palette(), RED),
        ("alpha.png", Image.new("RGBA", (3, 2), (*RED, 0)), RED),
        ("cmyk.tif", Image.new("CMYK", (3, 2), (0, 255, 255, 0)), RED),
        ("sixteen.png", Image.fromarray(np.full((2, 3), 513, np.uint16)), [2] * 3),
        ("little.tif", Image.fromarray(np.full((2, 3), 513, "<u2")), [2] * 3),
        ("big.tif", Image.fromarray(np.full((2, 3), 513, ">u2")), [2] * 3),
        ("wide.tif", Image.fromarray(np.full((2, 3), 65535, np.int32)), [255] * 3),
        ("sixteen.pgm", Image.fromarray(np.full((2, 3), 513, np.int32)), [2] * 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_follows_its_rule(tmp_path, name, image, colour):
    path = saved(tmp_path / name, image)
    assert pictures.read(path, 3).tolist() == [[colour] * 3] * 2
    grey = GREY_OF_RED if colour == RED else colour[0]
    assert pictures.read(path, 1).tolist() == [[[grey]] * 3] * 2
    header = pictures.inspect(path, hashed=True)
    assert (header.height, header.width, len(header.sha256)) == (2, 3, 32)
    assert header.alpha == (name in ("alpha.png", "grey_alpha.png", "transparent.png"))


def test_colour_of_sixteen_bits_is_the_upper_eight(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">9H", *[0x1234] * 9) for _ in range(2))
    path = tmp_path / "deep.png"
    path.write_bytes(png(3, 2, depth=16, data=zlib.compress(rows)))
    assert pictures.read(path, 3).tolist() == [[[0x12] * 3] * 3] * 2


def png(width, height, depth=8, data=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": data, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )  # fmt: skip


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_floating_point_is_an_error(tmp_path, value):
    image = Image.fromarray(np.full((2, 3), value, np.float32))
    assert "holds floating-point numbers" in error_of(saved(tmp_path / "float.tif", image))


def test_values_of_more_than_sixteen_bits(tmp_path):
    for value in (65536, -1):
        path = saved(tmp_path / "wide.tif", Image.fromarray(np.full((2, 3), value, np.int32)))
        with pytest.raises(UserError, match=rf"wide\.tif: holds values from {value} to {value};"):
            pictures.read(path, 3)
    lab = saved(tmp_path / "lab.tif", Image.new("LAB", (3, 2)))
    assert "holds mode LAB, which no rule brings to 8 bits" in error_of(lab)


def test_formats_that_start_programs_are_not_tried(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def started(*arguments, **options):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    path = tmp_path / "postscript.png"
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "EPS")
    path.write_bytes(out.getvalue())
    with Image.open(path) as image:
        assert image.format == "EPS", "Pillow would read it"
    assert "allowed: PNG, JPEG, BMP, GIF, TIFF, WEBP, PPM" in error_of(path)


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])
def test_decompression_bombs(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, data=zlib.compress(bytes(1000))))
    assert "pixels; allowed are 89,478,485" in error_of(path)


def test_files_that_are_not_regular_are_errors(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # such an address has to be short
        listener.bind("socket.png")
    assert "not a regular file" in error_of(tmp_path / "pipe.png")
    assert "not a regular file" in error_of(tmp_path / "folder.png")
    assert "is a link to a file that does not exist" in error_of(tmp_path / "gone.png")
    assert "there is no such file" in error_of(tmp_path / "none.png")
    for name in ("loop.png", "socket.png"):
        assert "cannot be read" in error_of(tmp_path / name)


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    path = saved(tmp_path / "secret.png", Image.new("L", (3, 2)))

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "secret.png: cannot be read" in error_of(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp", ".ppm", ".bmp"])
def test_damaged_images_are_one_line(tmp_path, suffix):
    """Cut off, or with bytes flipped: read, or error_of in one line."""
    rng = np.random.default_rng(0)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    messages = []
    for trial in range(40):
        content = bytearray(whole if trial % 2 else whole[: rng.integers(len(whole))])
        for index in rng.integers(0, max(1, len(content)), 8):
            content[index : index + 1] = bytes([rng.integers(256)])
        path.write_bytes(content)
        try:
            with warnings.catch_warnings(action="ignore"):
                pictures.read(path, 3)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in messages)
