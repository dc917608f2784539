"""The user's cache folder: whole folders that appear at once or not at all."""

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
from typing import Any

from cnnjax import files, machine, paths
from cnnjax.errors import UserError


def root() -> Path:
    """$CNNJAX_CACHE, else $XDG_CACHE_HOME/cnnjax, else ~/.cache/cnnjax. Raises UserError where that
    names a user or a home that does not exist."""
    if asked := os.environ.get("CNNJAX_CACHE"):
        return paths.typed("CNNJAX_CACHE", asked)
    home = _of_this_user()
    if home is None:
        raise UserError("cache folder: this user has no home; set CNNJAX_CACHE to a folder.")
    return home


def _of_this_user() -> Path | None:
    """The cache folder where $CNNJAX_CACHE names no other; None for a user without a home."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnjax"
    return None


class Untrusted(Exception):
    """Why no folder of the cache is fit for what is executed, in half a line."""


def private(name: str) -> Path:
    """The folder `name` for what is executed, which only this user and root can write to, whatever
    the umask: in the cache, or, where others can write there, in the one that is this user's
    without $CNNJAX_CACHE.

    Raises Untrusted where others can write to both, and OSError where it cannot be made.
    """
    reasons = []
    for place in dict.fromkeys((root(), _of_this_user())):
        if place is None:
            continue
        place.mkdir(parents=True, exist_ok=True)
        for part in Path(name).parts:
            place /= part
            place.mkdir(mode=0o755, exist_ok=True)
        reason = writable_by_others(place)
        if reason is None:
            return place
        reasons.append(reason)
    raise Untrusted("; ".join(dict.fromkeys(reasons)))


def writable_by_others(path: Path) -> str | None:
    """How anybody but this user and root can change a file, or what is in a folder: it belongs to
    them, or they may write there or in a folder above. None where they cannot."""
    if not hasattr(os, "geteuid"):
        return None
    reason = None
    resolved = path.resolve()
    for place in (resolved, *resolved.parents):
        status = place.stat()
        folder, mode = stat.S_ISDIR(status.st_mode), status.st_mode
        if status.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user"
        if folder and not mode & 0o011:  # nobody else can pass
            reason = None
        elif folder and mode & stat.S_ISVTX and place != resolved:  # each has what is its own
            continue
        elif mode & 0o002 or (mode & 0o020 and not _is_private(status)):
            reason = f"{place} can be written by others (chmod go-w ends that)"
    return reason


def _is_private(status: os.stat_result) -> bool:
    """Whether a file's group is one that its owner has alone, as many systems give to each user."""
    import grp
    import pwd

    try:
        group, owner = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder(name: str | Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """The folder `name` of the cache, made by `write(path)` on first use.

    It is written beside its place and renamed, so a process that is killed leaves nothing half
    done; of several processes that need it at once one works and the others wait for it.

    Args:
      name: path inside the cache, or a whole path.
      write: fills an empty folder.
      overwrite: throw away what is there and make it anew.

    Raises:
      UserError: the cache cannot be written.
    """
    place = root() / name
    if place.is_dir() and not overwrite:
        return place
    with contextlib.ExitStack() as stack:
        with _writable(OSError, UserError):
            lock = files.lock(place.parent / f".{place.name}.lock", wait=True)
            stack.enter_context(lock)
        stack.enter_context(_writable(OSError))
        if place.is_dir() and not overwrite:
            return place
        for left in place.parent.glob(f".{place.name}@*"):
            shutil.rmtree(left, ignore_errors=True)
        made = place.parent / f".{place.name}@{secrets.token_hex(4)}"
        made.mkdir()
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
    user's environment says where, or the cache cannot be written, or others could write there: jax
    executes what it reads. To be called before jax is imported."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            place = private(f"xla/{digest([machine.processor(), machine.instructions()])}")
        except (OSError, UserError):
            return
        except Untrusted as reason:
            print(f"note: compiled programs are not kept: {reason}", file=sys.stderr)
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(place)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@contextlib.contextmanager
def _writable(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds into the UserError of a cache that cannot be written."""
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cache folder {root()}: cannot be written ({reason}); "
            "set CNNJAX_CACHE to a folder with room that you can write to."
        ) from error
