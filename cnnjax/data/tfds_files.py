"""The files of a prepared TFDS directory, checked before TFDS reads them: it imports whatever
module `features.json` names, and waits for whatever it opens."""

import json
import re
from pathlib import Path
from typing import Any

from cnnjax import files
from cnnjax.errors import UserError

FEATURES = "features.json"
OF_TFDS = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")
CLASS_FIELDS = ("type", "pythonClassName", "python_class_name")


def check(directory: Path) -> None:
    """Raises UserError where a prepared directory holds something besides files and folders, or
    features of another kind than TFDS's own."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory}: cannot be read ({files.reason(error)}).") from None
    for entry in entries:
        if not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry}: is not a regular file.")
    if directory / FEATURES in entries:
        for name in _classes(directory / FEATURES):
            if not OF_TFDS.fullmatch(name):
                raise UserError(
                    f"{directory / FEATURES}: asks for {name[:100]!r}, which would run code; "
                    "allowed: features of TFDS (tensorflow_datasets.core.features)."
                )


def _classes(file: Path) -> list[str]:
    """The names of all classes in a features.json; JSON in its texts, which TFDS reads too, is
    looked into."""
    waiting: list[Any] = [files.read_json(file)]
    names = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            names += [value[field] for field in CLASS_FIELDS if isinstance(value.get(field), str)]
            waiting += value.values()
        elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            try:
                waiting.append(json.loads(value))
            except RecursionError:
                raise UserError(f"{file}: is nested too deeply.") from None
            except ValueError:
                continue  # a text that only begins like JSON
    return names
