"""The content of the files of a data set, as one digest."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax import cache, files
from cnnjax.errors import UserError

MAX_BYTES = 8 * 2**30
"""If the files are larger together, their names and sizes are digested: reading them would take
minutes."""


def version(status: os.stat_result) -> tuple[int, ...]:
    """Identifies the version of a file: its size, mtime, ctime and inode. Programs that unpack or
    copy set any mtime; moving or replacing a file changes its ctime or its inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def of_files(key: str, paths: Mapping[str, Path]) -> str:
    """`of_digests` of files, which are read once; the result is cached.

    Args:
      key: a digest of the `version` of each file; with another key they are read again.
      paths: {name: path}. The result depends on the names, not the paths: a data set may be moved.

    Raises UserError if a file cannot be read.
    """
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    if sum(sizes.values()) > MAX_BYTES:
        return of_digests(None, sizes)

    def write(folder: Path) -> None:
        digests = {name: sha256(path) for name, path in paths.items()}
        (folder / "content").write_text(of_digests(digests, sizes))

    return (cache.folder(f"contents/{key}", write) / "content").read_text()


def of_digests(digests: Mapping[str, str] | None, sizes: Mapping[str, int | str]) -> str:
    """`sha256:...` over the names and digests of files, or `sizes:...` over their names and sizes
    if they were not read."""
    if digests is None:
        return f"sizes:{cache.digest(dict(sizes))}"
    return f"sha256:{cache.digest(dict(digests))}"


def of_arrays(*arrays: np.ndarray) -> str:
    """`sha256:...` over the bytes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()[:16]}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises UserError if it cannot be read."""
    try:
        return files.sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
