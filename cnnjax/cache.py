"""The user's cache folder: whole folders that appear at once or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnnjax import machine
from cnnjax.errors import UserError


def root() -> Path:
    """$CNNJAX_CACHE, else $XDG_CACHE_HOME/cnnjax, else ~/.cache/cnnjax."""
    if own := os.environ.get("CNNJAX_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnjax"


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder(name: str, write: Callable[[Path], None], again: bool = False) -> Path:
    """The folder `name` of the cache, made by `write(path)` on first use.

    It is written beside its place and renamed, so a process that is killed leaves nothing half
    done; of several processes that need it at once one works and the others wait for it.

    Args:
      name: path inside the cache.
      write: fills an empty folder.
      again: throw away what is there and make it anew.

    Raises:
      UserError: the cache cannot be written.
    """
    place = root() / name
    if place.is_dir() and not again:
        return place
    with _writable(), _locked(place) as alone:
        if place.is_dir() and not again:
            return place
        for left in place.parent.glob(f".{place.name}@*") if alone else ():
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f".{place.name}@", dir=place.parent))
        try:
            write(made)
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(made, place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return place


def keep_compilations() -> None:
    """Makes jax keep what it compiles here, in a folder for each kind of processor, unless the
    user's environment says where or the cache cannot be written. To be called before jax is
    imported."""
    place = root() / "xla" / digest([machine.processor(), machine.instructions()])
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@contextlib.contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cache folder {root()}: cannot be written ({error.strerror or error}); "
            "set CNNJAX_CACHE to a folder with room that you can write to."
        ) from error


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[bool]:
    """One process at a time, where the system and the file system know locks; gives whether."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with open(place.parent / f".{place.name}.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone
