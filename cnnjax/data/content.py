"""The content of a data set's files, as one digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax import cache, files
from cnnjax.errors import UserError

MOST_BYTES = 8 * 2**30
"""Files that are larger together stand for themselves by their names and sizes: reading them would
take minutes."""


def of_files(key: str, paths: Mapping[str, Path]) -> str:
    """`sha256:...` over the names and bytes of files, or `sizes:...` over their names and sizes
    where they are larger than MOST_BYTES together. Read once and kept in the cache folder.

    Args:
      key: stands for the names, sizes and times of the files; another key, and they are read again.
      paths: {name: path}. The names count, the paths do not: a data set may be moved.

    Raises UserError where a file cannot be read.
    """
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    if sum(sizes.values()) > MOST_BYTES:
        return f"sizes:{cache.digest(sizes)}"

    def write(folder: Path) -> None:
        digests = {name: _read(path) for name, path in paths.items()}
        (folder / "content").write_text(cache.digest(digests))

    return f"sha256:{(cache.folder(f'contents/{key}', write) / 'content').read_text()}"


def of_arrays(*arrays: np.ndarray) -> str:
    """`sha256:...` over the bytes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()[:16]}"


def _read(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
