"""Reads npz files, which may be damaged or made by somebody else."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from cnnjax import files
from cnnjax.errors import UserError

MAX_BYTES = 2**30
"""How large the arrays that are read may be together."""

DAMAGED = (
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise on a file that is damaged or is no npz."""


def read(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz, or those of `names` that it has; never pickled objects.

    Raises UserError, naming the file, if it is absent, damaged or larger than MAX_BYTES.
    """
    try:
        with files.open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            sizes = {
                info.filename.removesuffix(".npy"): info.file_size
                for info in archive.zip.infolist()
            }
            wanted = [name for name in archive.files if names is None or name in names]
            if sum(sizes[name] for name in wanted) > MAX_BYTES:
                raise UserError(f"{path}: cannot be read (larger than {MAX_BYTES >> 20} MiB).")
            arrays = {name: archive[name] for name in wanted}
    except (OSError, EOFError, KeyError, *DAMAGED) as error:
        raise UserError(f"{path}: cannot be read ({files.reason(error)}).") from None
    # An array of no bytes, of empty texts for example, may claim any number of elements.
    if not all(isinstance(a, np.ndarray) and a.size <= MAX_BYTES for a in arrays.values()):
        raise UserError(f"{path}: cannot be read (not arrays).")
    return arrays
