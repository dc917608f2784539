"""Paths as a person types them, in flags and in fields. No jax."""

import errno
import os
import unicodedata
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError, shown

MOST_BYTES = 255  # of a name; so many do file systems take
FOLDER = "folder:"


def typed(where: str, text: str) -> Path:
    """The path that a text stands for, `~` being the home folder.

    Args:
      where: the flag or field that it is from, for errors.
      text: as typed.

    Raises UserError for a home folder that is not known, control characters, names that are too
    long for a file system, and links that lead to themselves.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise UserError(
            f"{where}: {shown(text)} has a character that cannot be in a path here.", path=where
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        text = f"{where}: {text}: no home folder is known for it."
        raise UserError(text, path=where) from None
    for name in path.parts:
        if len(os.fsencode(name)) > MOST_BYTES:
            raise UserError(
                f"{where}: {name[:40]}... is a name of {len(os.fsencode(name))} bytes; "
                f"allowed: at most {MOST_BYTES}",
                path=where,
            )
    if len(os.fsencode(path)) > 16 * MOST_BYTES:
        raise UserError(f"{where}: {text[:40]}... is too long for a path.", path=where)
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            text = f"{where}: {text}: is a link that leads to itself."
            raise UserError(text, path=where) from None
    return path


def absolute(where: str, text: str) -> str:
    """The absolute path that a text stands for, as seen from the current folder. Raises UserError
    as `typed` does."""
    return os.path.abspath(typed(where, text))


def field(path: str, value: Any) -> Any:
    """The value of a field (`data.name`), a path in it being absolute. Raises UserError."""
    return FIELDS[path](value) if path in FIELDS and isinstance(value, str) else value


def weights(text: str) -> str:
    """The folder of `transfer.init_from`, made absolute. Raises UserError."""
    return absolute("transfer.init_from", text)


def data_name(text: str) -> str:
    """The name of a data set, the folder in `folder:PATH` being absolute. Raises UserError."""
    if text.startswith(FOLDER) and text != FOLDER:
        return FOLDER + absolute("data.name", text.removeprefix(FOLDER))
    if not text.startswith(FOLDER):
        typed("data.name", text)
    return text


FIELDS = {"data.name": data_name, "transfer.init_from": weights}
"""The fields that hold a path."""
