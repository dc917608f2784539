"""Image files: which formats are read, and how their pixels become 8 bits.

| Pillow's mode | rule |
| --- | --- |
| `1`, `L`, `RGB` | as they are; `1` becomes 0 and 255 |
| `LA`, `PA`, `RGBA`, a transparent colour | alpha is dropped |
| `P`, `PA` | the colours of the palette |
| `RGBX`, `CMYK`, `YCbCr` | Pillow's conversion, without colour profiles |
| `I;16`, `I;16B`, `I;16L`, `I;16N`; colour of 16 bits | the upper 8 of the 16 bits |
| `I` | as 16 bits; an error if a value is outside 0..65535 |
| others, such as `F` (floating point) and `LAB` | an error: they have no agreed range |

One channel is Pillow's `L` (ITU-R 601-2 luma), three are `RGB`. Of several frames or pages the
first is read. The EXIF orientation is not applied. The format is found from the content of a file,
not from its name; only the formats listed here are tried, since some of Pillow's start programs.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnnjax import files
from cnnjax.errors import UserError

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
GREY = ("1", "L", "LA", *SIXTEEN_BITS)
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "P", *SIXTEEN_BITS)
MAX_PIXELS = 89_478_485
"""Above this number Pillow warns: most likely a decompression bomb."""


class Header(NamedTuple):
    """What is known of an image without decoding it.

    Attributes:
      mode: Pillow's.
      height, width: in pixels.
      alpha: whether it has an alpha channel or a transparent colour.
      frames: whether it has several frames or pages.
      sha256: of the bytes of the file, uint8 [32]; 0 where they were not read.
    """

    mode: str
    height: int
    width: int
    alpha: bool
    frames: bool
    sha256: np.ndarray


def decode(file: BinaryIO, channels: int, where: str) -> np.ndarray:
    """An image file as uint8 [h, w, channels]; channels is 1 or 3.

    Raises UserError, naming `where`, if it is not an image of the formats and modes above, is
    damaged or has too many pixels.
    """
    with _opened(file, where) as image:
        picture = _eight_bits(image, where).convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(picture)
    return pixels[:, :, None] if channels == 1 else pixels


def read(path: Path, channels: int) -> np.ndarray:
    """The image in a file as uint8 [h, w, channels]. Raises UserError, as `decode`."""
    with files.open_regular(path) as file:
        return decode(file, channels, str(path))


def read_mask(path: Path) -> np.ndarray:
    """The mask in a file as uint8 [h, w]: the values of its pixels, or of a palette the indices.

    Raises UserError, as `decode`, and for colours, values above 255 and JPEG, which changes values.
    """
    with files.open_regular(path) as file:
        return decode_mask(file, str(path))


def decode_mask(file: BinaryIO, where: str) -> np.ndarray:
    """As `read_mask`, of an open file, which messages call `where`."""
    with _opened(file, where) as image:
        if image.format == "JPEG":
            raise UserError(f"{where}: is a JPEG, which does not keep values; save masks as PNG.")
        if image.mode not in MASK_MODES:
            raise UserError(
                f"{where}: holds colours (mode {image.mode}), not the classes of pixels; allowed: "
                "one channel, or a palette whose indices are the classes."
            )
        values = np.asarray(image)
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise UserError(
            f"{where}: holds values from {values.min()} to {values.max()}; allowed in a mask: 0 to "
            "255."
        )
    return values.astype(np.uint8)


def size(file: BinaryIO, where: str) -> tuple[int, int]:
    """(height, width) of an image file, which is not decoded. Raises UserError, as `decode`."""
    with _opened(file, where) as image:
        return image.height, image.width


def inspect(path: Path, hashed: bool) -> Header:
    """The header of an image file, with the SHA-256 of its bytes if it is to be `hashed`.

    Raises UserError, as `decode` does, if the header shows that the image cannot be read.
    """
    with files.open_regular(path) as file:
        # Pillow warns of the size, which `_opened` checks, and of metadata, which are not used.
        with warnings.catch_warnings(action="ignore"), _opened(file, str(path)) as image:
            alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
            frames = bool(getattr(image, "is_animated", False))
            mode, height, width = image.mode, image.height, image.width
        digest = bytes(32)
        if hashed:
            try:
                file.seek(0)
                digest = hashlib.sha256(file.read()).digest()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({files.reason(error)}).") from error
    return Header(mode, height, width, alpha, frames, np.frombuffer(digest, np.uint8))


@contextlib.contextmanager
def _opened(file: BinaryIO, where: str) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet. Whatever Pillow raises for a damaged file, here or
    while the context decodes the image, becomes a UserError of one line."""
    try:
        with Image.open(file, formats=tuple(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{where}: has {image.width} x {image.height} pixels; allowed are "
                    f"{MAX_PIXELS:,} in all."
                )
            if image.mode not in MODES:
                kind = "floating-point numbers" if image.mode == "F" else f"mode {image.mode}"
                raise UserError(
                    f"{where}: holds {kind}, which no rule brings to 8 bits; save it as grey or "
                    "RGB of 8 or 16 bits."
                )
            yield image
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise UserError(f"{where}: not a readable image; allowed: {formats}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{where}: has too many pixels; allowed are {MAX_PIXELS:,} in all."
        ) from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise UserError(f"{where}: not a readable image ({files.reason(error)}).") from error


def _eight_bits(image: Image.Image, where: str) -> Image.Image:
    """An image of 16 bits by the rule above; others as they are."""
    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image)
        if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
            raise UserError(
                f"{where}: holds values from {values.min()} to {values.max()}; allowed are those "
                "of 16 bits, 0 to 65535."
            )
        return Image.fromarray((values // 256).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # directly, Pillow would warn
        return image.convert("RGBA")
    return image
