"""The user's cache folder, whose folders are complete or absent."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cnnjax import files, machine, paths
from cnnjax.errors import UserError

T = TypeVar("T")


def root() -> Path:
    """$CNNJAX_CACHE, else $XDG_CACHE_HOME/cnnjax, else ~/.cache/cnnjax. Raises UserError for a user
    or a home that does not exist."""
    if path := os.environ.get("CNNJAX_CACHE"):
        return paths.parse("CNNJAX_CACHE", path)
    default = _default_root()
    if default is None:
        raise UserError("cache folder: this user has no home; set CNNJAX_CACHE to a folder.")
    return default


def _default_root() -> Path | None:
    """The cache folder without $CNNJAX_CACHE; None for a user without a home."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnjax"
    return None


class Untrusted(Exception):
    """Why no folder of the cache is safe for files that are executed, in half a line."""


def private(name: str) -> Path:
    """A folder `name` for files that are executed, which only this user and root can write to: in
    the cache, or, if others can write there, in the default cache.

    Raises Untrusted if others can write to both, and OSError if it cannot be created.
    """
    reasons = []
    for path in filter(None, dict.fromkeys((root(), _default_root()))):
        path.mkdir(parents=True, exist_ok=True)
        for part in Path(name).parts:
            path /= part
            path.mkdir(mode=0o755, exist_ok=True)
        reason = writable_by_others(path)
        if reason is None:
            return path
        reasons.append(reason)
    raise Untrusted("; ".join(dict.fromkeys(reasons)))


def writable_by_others(path: Path) -> str | None:
    """Why other users than this one and root can change a file, or files in a folder: it belongs to
    them, or they can write to it or to a folder above. None if they cannot."""
    if not hasattr(os, "geteuid"):
        return None
    reason = None
    resolved = path.resolve()
    for part in (resolved, *resolved.parents):
        status = part.stat()
        is_folder, mode = stat.S_ISDIR(status.st_mode), status.st_mode
        if status.st_uid not in (0, os.geteuid()):
            return f"{part} belongs to another user"
        if is_folder and not mode & 0o011:  # others cannot enter
            reason = None
        elif is_folder and mode & stat.S_ISVTX and part != resolved:  # sticky: owners only
            continue
        elif mode & 0o002 or (mode & 0o020 and not _has_private_group(status)):
            reason = f"{part} can be written by others (chmod go-w ends that)"
    return reason


def _has_private_group(status: os.stat_result) -> bool:
    """Whether the owner is the only member of a file's group, as by default on many systems."""
    import grp
    import pwd

    try:
        group, owner = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder(name: str | Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """The folder `name` of the cache, created by `write(path)` on first use.

    It is written under another name and renamed, so that it is complete even if processes are
    killed. Of several processes that need it at the same time one writes it and the others wait.

    Args:
      name: path inside the cache, or an absolute path.
      write: fills an empty folder.
      overwrite: write it again if it exists.

    Raises:
      UserError: the cache cannot be written.
    """
    path = root() / name
    if path.is_dir() and not overwrite:
        return path
    with contextlib.ExitStack() as stack:
        with _writable(OSError, UserError):
            lock = files.lock(path.parent / f".{path.name}.lock", wait=True)
            stack.enter_context(lock)
        stack.enter_context(_writable(OSError))
        if path.is_dir() and not overwrite:
            return path
        for abandoned in path.parent.glob(f".{path.name}@*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        temporary = path.parent / f".{path.name}@{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            write(temporary)
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def load(name: str, write: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """What `read` returns for the `folder` of that name, which is written again if it cannot be
    read."""
    with contextlib.suppress(OSError, ValueError, EOFError, KeyError):
        return read(folder(name, write))
    return read(folder(name, write, overwrite=True))


def keep_compilations() -> None:
    """Makes jax cache compiled programs, in a folder for each kind of processor, unless the
    environment names another, the cache cannot be written, or others can write to it: jax executes
    what it reads. To be called before jax is imported."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            path = private(f"xla/{digest([machine.processor(), machine.instructions()])}")
        except (OSError, UserError):
            return
        except Untrusted as reason:
            print(f"note: compiled programs are not kept: {reason}", file=sys.stderr)
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@contextlib.contextmanager
def _writable(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds into a UserError: the cache cannot be written."""
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cache folder {root()}: cannot be written ({reason}); "
            "set CNNJAX_CACHE to a folder with free space that you can write to."
        ) from error
