"""Paths in flags and fields, as typed by the user. No jax."""

import errno
import os
import unicodedata
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError, shown

MAX_NAME_BYTES = 255  # the limit of file systems
FOLDER = "folder:"


def parse(where: str, text: str) -> Path:
    """A path as typed, with `~` expanded to the home folder.

    Args:
      where: the flag or field, for errors.
      text: as typed.

    Raises UserError for an unknown home folder, control characters, names that are too long for a
    file system, and links to themselves.
    """

    def error(message: str) -> UserError:
        return UserError(f"{where}: {message}", path=where)

    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise error(f"{shown(text)} has a character that cannot be in a path here.")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise error(f"{text}: no home folder is known for it.") from None
    for name in path.parts:
        if (size := len(os.fsencode(name))) > MAX_NAME_BYTES:
            allowed = f"allowed: at most {MAX_NAME_BYTES}"
            raise error(f"{name[:40]}... is a name of {size} bytes; {allowed}")
    if len(os.fsencode(path)) > 16 * MAX_NAME_BYTES:
        raise error(f"{text[:40]}... is too long for a path.")
    try:
        path.stat()
    except OSError as reason:
        if reason.errno == errno.ELOOP:
            raise error(f"{text}: is a link that leads to itself.") from None
    return path


def absolute(where: str, text: str) -> str:
    """A path as typed, made absolute. Raises UserError as `parse` does."""
    return os.path.abspath(parse(where, text))


def field(path: str, value: Any) -> Any:
    """The value of a field (`data.name`) with its path made absolute. Raises UserError."""
    return FIELDS[path](value) if path in FIELDS and isinstance(value, str) else value


def weights(text: str) -> str:
    """The folder of `transfer.init_from`, made absolute. Raises UserError."""
    return absolute("transfer.init_from", text)


def data_name(text: str) -> str:
    """The name of a data set, the folder in `folder:PATH` being absolute. Raises UserError."""
    if text.startswith(FOLDER) and text != FOLDER:
        return FOLDER + absolute("data.name", text.removeprefix(FOLDER))
    if not text.startswith(FOLDER):
        parse("data.name", text)
    return text


FIELDS = {"data.name": data_name, "transfer.init_from": weights}
"""The fields that hold a path."""
