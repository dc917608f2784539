"""What the files of a data set hold, as one digest."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax import cache, files
from cnnjax.errors import UserError

MOST_BYTES = 8 * 2**30
"""Files that are larger together stand for themselves by their names and sizes: reading them would
take minutes."""


def version(status: os.stat_result) -> tuple[int, ...]:
    """Identifies the version of a file: its size, mtime, ctime and inode. Programs that unpack or
    copy set the mtime as they like; moving or replacing a file changes its ctime or its inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def of_files(key: str, paths: Mapping[str, Path]) -> str:
    """`of_digests` of files, which are read once; the result is kept in the cache folder.

    Args:
      key: stands for the `version` of each file; another key, and they are read again.
      paths: {name: path}. The names count, the paths do not: a data set may be moved.

    Raises UserError where a file cannot be read.
    """
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    if sum(sizes.values()) > MOST_BYTES:
        return of_digests(None, sizes)

    def write(folder: Path) -> None:
        digests = {name: _read(path) for name, path in paths.items()}
        (folder / "content").write_text(of_digests(digests, sizes))

    return (cache.folder(f"contents/{key}", write) / "content").read_text()


def of_digests(digests: Mapping[str, str] | None, sizes: Mapping[str, int]) -> str:
    """`sha256:...` over the names and digests of files, or `sizes:...` over their names and sizes
    where they were not read."""
    if digests is None:
        return f"sizes:{cache.digest(dict(sizes))}"
    return f"sha256:{cache.digest(dict(digests))}"


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
