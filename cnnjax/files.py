"""Atomic writes, reads with limits, and locks."""

import contextlib
import errno
import functools
import hashlib
import io
import itertools
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cnnjax.errors import MachineError, UserError

ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

MAX_JSON_BYTES = 64 << 20
MAX_LINES_BYTES = 256 << 20
MAX_DEPTH = 100
"""How large and how deeply nested a file may be."""


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8; what cannot be encoded is escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `path` atomically: a reader sees the old content or the new one.

    Raises UserError if `path` is a device, a pipe or a folder, and MachineError if the folder
    cannot be written or the disk is full.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be written: it is not a regular file; name another.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        text = f"{path}: cannot be written: {error.strerror or error}."
        raise MachineError(text, errno=error.errno) from None


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises json.JSONDecodeError for text that is not JSON, also for NaN and Infinity, and another
    ValueError, which says why, for values that cannot be used: numbers that are too large, lone
    surrogates, nesting that is too deep.
    """
    try:
        value = json.loads(
            text, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError(f"is nested more than {MAX_DEPTH} times") from None
    level, depth = [value], 0
    while level := [child for node in level for child in _children(node)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} times")
    surrogates = "\\ud" in text.lower() if isinstance(text, str) else b"\\ud" in text.lower()
    if surrogates:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds half a character (a lone surrogate)") from None
    return value


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError naming the file if it is absent or cannot be used,
    and MachineError for an error of the system."""
    content = read_bytes(path, MAX_JSON_BYTES)
    try:
        return parse_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot be read (not text in UTF-8).") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not whole JSON ({error}).") from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be used: {error}.") from None


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`. Raises UserError, and MachineError for
    an error of the system."""
    with open_regular(path) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise MachineError(f"{path}: cannot be read just now ({reason(error)}).") from None
    if len(content) > max_bytes:
        raise UserError(f"{path}: cannot be read (larger than {max_bytes >> 20} MiB).")
    return content


def set_aside(path: Path) -> Path:
    """Renames a file or folder that cannot be used, so that it is kept but not used. Returns the
    new path: NAME.unreadable, or NAME.unreadable-2 and so on if that exists.

    Raises MachineError if it cannot be renamed.
    """
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.unreadable{ending}") for ending in endings)
    unused = next(name for name in names if not os.path.lexists(name))
    try:
        return path.rename(unused)
    except OSError as error:
        raise MachineError(f"{path}: cannot be renamed: {error.strerror or error}.") from None


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading; does not block on a pipe without writer.

    Raises UserError naming the path if it is absent or not a regular file, and MachineError for an
    error of the system.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        missing = "is a link to a file that does not exist" if path.is_symlink() else None
        raise UserError(f"{path}: {missing or 'there is no such file'}.") from None
    except (*ABSENT, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None
    except OSError as error:
        raise MachineError(f"{path}: cannot be read just now ({reason(error)}).") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path}: cannot be read (not a regular file).")
    return os.fdopen(handle, "rb")


def reason(error: BaseException) -> str:
    """Why a file cannot be used: the message of the system, else the first line of the error."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, without lines that are incomplete or cannot be used; [] if
    it is absent. Raises UserError if it exists and cannot be read."""
    records: list[dict[str, Any]] = []
    if not os.path.lexists(path):
        return records
    for line in read_bytes(path, MAX_LINES_BYTES).decode("utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = parse_json(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def open_log(path: Path) -> IO[str]:
    """Opens a text file for appending, and creates it if necessary. Raises UserError if it cannot
    be opened, or is a link."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"{path}: cannot be written: {reason}.") from None


def refuse_links(path: Path, *, below: Path) -> None:
    """Raises UserError if `path`, a folder between it and `below`, or anything in it is a symbolic
    link: files would be written and removed elsewhere. `below` itself may be a link."""
    between = [str(part) for part in (path, *path.parents) if below in part.parents]
    links = [part for part in between if os.path.islink(part)]
    for link in links or _links(str(path)):
        raise UserError(
            f"{link}: is a link to {os.readlink(link)}; nothing is written through links inside "
            "--workdir, which may be one itself. Remove it, or pick another --workdir."
        )


def _links(folder: str) -> Iterator[str]:
    """The symbolic links in a folder and all folders in it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(entry.path)


@contextlib.contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Holds an exclusive lock on `path` in its context, and yields whether it was acquired.

    The lock ends with the process, however that ends. With `wait=False` it yields False at once if
    another process has the lock. On a file system without locks the lock is a file beside `path`
    that names host and process: it is taken over from a process of this host that has ended, but
    has to be removed by hand after one of another host.

    Raises UserError if `path` cannot be written or locked.
    """
    with open_log(path) as file:
        locked = _flock(file, path, wait)
        if locked is not None:
            yield locked
            return
    with _lock_file(path, wait) as acquired:
        yield acquired


def _flock(file: IO[str], path: Path, wait: bool) -> bool | None:
    """Whether an open file was locked; None if its file system has no locks."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(f"{path}: cannot be locked: {error.strerror}.") from None
        folder = path.parent.resolve()
        mount = next(part for part in (folder, *folder.parents) if part.is_mount())
        _print_once(
            f"{mount}: this file system has no locks ({error.strerror}); files that name host and "
            "process (*.holder) are used instead."
        )
        return None
    return True


@contextlib.contextmanager
def _lock_file(path: Path, wait: bool) -> Iterator[bool]:
    """Holds the file that replaces a lock on `path`, and yields whether it was acquired."""
    import filelock

    holder = filelock.SoftFileLock(f"{path}.holder")
    try:
        holder.acquire(timeout=5.0 if wait else 0.0)  # seconds until a message says who has it
    except filelock.Timeout as error:
        if str(error) != str(filelock.Timeout(error.lock_file)):  # of another host
            _print_once(f"{error} Remove the file if that process has ended.")
        if not wait:
            yield False
            return
        holder.acquire()
    try:
        yield True
    finally:
        holder.release()


@functools.cache
def _print_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"holds a whole number that is too large ({text[:20]}...)")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds a number that is too large ({text[:20]})")
    return value


def _refuse(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is not JSON", text, 0)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()
