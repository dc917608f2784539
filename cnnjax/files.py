"""Files that are whole or absent: atomic writes, reads that bound what they take, and locks."""

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

LARGEST_JSON = 64 << 20  # bytes
LARGEST_LINES = 256 << 20
DEEPEST = 100
"""How large and how deeply nested a file may be."""


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `path` so that a reader sees the old content or the new, never a part.

    Raises UserError where `path` is a device, a pipe or a folder, which a file would replace, and
    MachineError where the folder cannot be written or the disk is full.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be written: it is no regular file; name another.")
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
    """The value that a JSON text stands for.

    Raises json.JSONDecodeError for what is no JSON, NaN and Infinity included, and another
    ValueError, which says why, for JSON whose value nobody could use: numbers too large for a
    computer's, half characters, nesting without end.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_json)
    except RecursionError:
        raise ValueError(f"is nested more than {DEEPEST} times") from None
    level, depth = [value], 0
    while level := [child for node in level for child in _inside(node)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} times")
    halves = "\\ud" in text.lower() if isinstance(text, str) else b"\\ud" in text.lower()
    if halves and not _encodes(value):
        raise ValueError("holds half a character (a lone surrogate)")
    return value


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError naming the file where it is absent or cannot be
    used, and MachineError where it cannot be read just now."""
    content = read_bytes(path, LARGEST_JSON)
    try:
        return parse_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot be read (not text in UTF-8).") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not whole JSON ({error}).") from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be used: {error}.") from None


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file of at most `largest` bytes. Raises UserError, and MachineError
    where it cannot be read just now."""
    with open_regular(path) as file:
        try:
            content = file.read(largest + 1)
        except OSError as error:
            raise MachineError(f"{path}: cannot be read just now ({reason(error)}).") from None
    if len(content) > largest:
        raise UserError(f"{path}: cannot be read (larger than {largest >> 20} MiB).")
    return content


def set_aside(path: Path) -> Path:
    """Renames what cannot be used, so that it is neither used nor lost; returns the new path:
    NAME.unreadable, or NAME.unreadable-2 and so on where that is taken.

    Raises MachineError where it cannot be renamed.
    """
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.unreadable{ending}") for ending in endings)
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        return path.rename(aside)
    except OSError as error:
        raise MachineError(f"{path}: cannot be renamed: {error.strerror or error}.") from None


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading. Nothing else is waited for: a pipe may never have a writer.

    Raises UserError naming the path where it is absent or is no regular file, and MachineError
    where it cannot be read just now.
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
    """Why a file cannot be used, in a few words: what the system says, else the first line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, without lines that are torn or whose values cannot be used;
    [] if it is absent. Raises UserError where it is there and cannot be read."""
    records: list[dict[str, Any]] = []
    if not os.path.lexists(path):
        return records
    for line in read_bytes(path, LARGEST_LINES).decode("utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def open_log(path: Path) -> IO[str]:
    """A text file that is appended to, made where it does not exist. Raises UserError where it
    cannot be opened, or is a link."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"{path}: cannot be written: {reason}.") from None


def no_links(path: Path, *, below: Path) -> None:
    """Raises UserError where `path`, a folder between it and `below`, or anything in it is a
    symbolic link: files would be written and removed elsewhere. `below` itself may be one."""
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
    """Holds an exclusive lock on `path` while the block runs, and yields whether it was got.

    The lock ends with the process, however that ends. With `wait=False` a lock held elsewhere
    yields False at once. On a file system without locks a file beside `path`, which names host and
    process, is the lock: that of a process of this host which has ended is taken over, that of
    another host has to be removed by hand.

    Raises UserError where `path` cannot be written or locked.
    """
    with open_log(path) as file:
        locked = _flock(file, path, wait)
        if locked is not None:
            yield locked
            return
    with _holder(path, wait) as mine:
        yield mine


def _flock(file: IO[str], path: Path, wait: bool) -> bool | None:
    """Whether an open file was locked; None where its file system has no locks."""
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
        _say_once(
            f"{mount}: this file system has no locks ({error.strerror}); files that name host and "
            "process (*.holder) are used instead."
        )
        return None
    return True


@contextlib.contextmanager
def _holder(path: Path, wait: bool) -> Iterator[bool]:
    """Holds the file that stands for a lock on `path`, and yields whether it was got."""
    import filelock

    holder = filelock.SoftFileLock(f"{path}.holder")
    patience = 5.0 if wait else 0.0  # seconds, before it is said who has it
    while True:
        try:
            holder.acquire(timeout=patience)
            break
        except filelock.Timeout as timeout:
            if str(timeout) != str(filelock.Timeout(timeout.lock_file)):  # of another host
                _say_once(f"{timeout} Remove the file if that process has ended.")
            if not wait:
                yield False
                return
            patience = -1.0
    try:
        yield True
    finally:
        holder.release()


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"holds a whole number that is too large ({text[:20]}...)")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds a number that is too large ({text[:20]})")
    return value


def _no_json(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is no JSON", text, 0)


def _inside(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
