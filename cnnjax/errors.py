"""Errors with messages of one or two lines.

Every mistake of the user is a `UserError`: `launch` prints its text and exits with code 2, without
a traceback. The text names the path, the value, what is allowed and, for a misspelt name, the
nearest one.
"""

import difflib
import json
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError


class UserError(Exception):
    """A mistake in the input; the message says what is allowed. `path` is the dotted path of the
    field that is wrong, or the flag, if it is one."""

    def __init__(self, text: str, *, path: str | None = None):
        super().__init__(text)
        self.path = path


class MachineError(UserError):
    """The operating system refuses something (input/output error, too many open files, disk full):
    not a mistake of the user and not a result of the run, which the same command continues later.
    `errno` is that of the system, if it gave one."""

    def __init__(self, text: str, *, errno: int | None = None):
        super().__init__(text)
        self.errno = errno


class OutOfMemory(UserError):
    """A device has less memory than a run needs; the message names the fields to reduce."""


class Mismatch(UserError):
    """Stored variables do not fit a network: the paths of entries that are `missing`, `extra`, or
    `different` in shape or dtype."""

    def __init__(
        self, text: str, *, missing: Sequence[str], extra: Sequence[str], different: Sequence[str]
    ):
        super().__init__(text)
        self.missing, self.extra, self.different = missing, extra, different


class Stopped(BaseException):
    """A program was asked to stop; the message says by which signal, and where. Like
    KeyboardInterrupt it is not an Exception, so that it is not taken for a failure of a run."""


def location(error: BaseException, folder: Path) -> str:
    """`mine.py, line 3: `, the innermost line of a file in `folder` in the traceback; "" if there
    is none."""
    innermost = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.parent == folder:
            innermost = f"{file.name}, line {line}: "
    return innermost


def one_line(error: BaseException, file: Path) -> str:
    """An error in one line, with its location in the user's `file` or one in the same folder."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{location(error, file.parent)}{type(error).__name__}: {text}"


RENAMED = {"deck": "centered"}
"""Values of fields in older versions, and their names now."""

MAX_SHOWN = 200
"""How many characters of a value a message shows."""


def shown(value: Any) -> str:
    """The repr of a value for a message, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "a number of thousands of digits"
    except RecursionError:
        return "a value that is nested too deeply"
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 20]} ... {text[-15:]}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names` to `name`, or None if none is similar."""
    if len(name) > MAX_SHOWN:
        return None
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(where: str, name: Any, names: Iterable[str]) -> UserError:
    """The error for a `name` that is not in `names`: lists them and gives the nearest."""
    names = list(names)
    near = nearest(name, names) if isinstance(name, str) else None
    hint = f" Did you mean {near!r}?" if near else ""
    return UserError(f"{where}: unknown {shown(name)}.{hint} Known: {', '.join(names) or 'none'}.")


def unknown_path(path: str, fields: Iterable[str]) -> UserError:
    """The error for a dotted path that is not in `fields`: gives the nearest name in the same
    group, else the field or group whose path ends with it."""
    return UserError(_unknown_path_text(path, fields), path=path)


def _unknown_path_text(path: str, fields: Iterable[str]) -> str:
    paths: dict[str, None] = {}  # of groups and fields
    for name in fields:
        parts = name.split(".")
        paths.update((".".join(parts[:end]), None) for end in range(1, len(parts) + 1))
    group = path.rpartition(".")[0]
    siblings = [name for name in paths if name.rpartition(".")[0] == group]
    path = _shorten(path)
    if path in paths:
        return f"{path}: is a field; no fields are below it."
    ending = next((name for name in paths if name.endswith(f".{path}")), None)
    near = nearest(path, siblings) or ending or nearest(path, paths)
    if near:
        return f"{path}: unknown; did you mean {near}?"
    top = sorted(name for name in paths if "." not in name)
    return f"{path}: unknown. Known: {', '.join(siblings or top)}."


_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
_ALLOWED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "model_type": "a group of fields",
    "list_type": "a list",
    "dict_type": "a table",
    "too_short": "one that is not empty",
}
"""What is allowed, by the type of pydantic's error, whose own message is for programmers."""


def first_field(error: ValidationError) -> str:
    """The dotted path of the first wrong field."""
    first: Any = error.errors()[0]
    path = first.get("ctx", {}).get("path") or _dotted(first["loc"])
    return str(path.partition("[")[0])


def _dotted(parts: Iterable[str | int]) -> str:
    """`optimizer.groups[0].rate`."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part if part.isprintable() else repr(part)}"
    return path.removeprefix(".")


def explain(error: ValidationError, fields: Iterable[str]) -> str:
    """A validation error in at most two lines: path, value, what is allowed, nearest. In `fields`,
    `[]` is any index of a list."""
    fields = list(fields)
    lines = []
    for item in error.errors():
        value = item["input"]
        path = _shorten(_dotted(item["loc"]))
        if item["type"] == "inconsistent":
            lines.append(item["msg"])
        elif item["type"] == "missing":
            lines.append(f"{path}: is missing")
        elif item["type"] == "extra_forbidden":
            index = next((f"[{part}]" for part in item["loc"] if isinstance(part, int)), "[]")
            names = [name.replace("[]", index) for name in fields]
            lines.append(_unknown_path_text(path, names))
        else:
            allowed = _allowed(path, item)
            names = allowed.removeprefix("allowed: ").split(", ")
            near = nearest(value, names) if isinstance(value, str) else None
            renamed = RENAMED.get(value) if isinstance(value, str) else None
            hint = f"; did you mean {near}?" if near else ""
            hint = f"; it is called {renamed} now" if renamed in names else hint
            where = f"{path}: " if path else ""
            lines.append(f"{where}{shown(value)} is not valid; {allowed}{hint}")
    return "\n".join(dict.fromkeys(lines[:2]))


def _allowed(path: str, item: Any) -> str:
    """What is allowed instead of a wrong value."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "tuple_type":
        return f"write a list: {path}={_list_of(item['input'])}"
    if kind == "literal_error":
        names = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"allowed: {names}"
    for limit, relation in _LIMITS.items():
        if limit in context:
            bound = context[limit]
            number = "a whole number" if isinstance(bound, int) else "a number"
            return f"allowed: {number}, {relation} {bound:,.12g}"
    return f"allowed: {_ALLOWED[kind]}" if kind in _ALLOWED else item["msg"]


def _list_of(value: Any) -> str:
    """A value, or text with commas, as the list that was probably meant."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    try:
        return _shorten(json.dumps([_number(part) for part in parts]))
    except (TypeError, ValueError, OverflowError):
        return _shorten(json.dumps(parts)) if isinstance(value, str) else f"[{shown(value)}]"


def _number(value: Any) -> float:
    """A number, int if it is written as one."""
    try:
        return value if isinstance(value, int | float) else int(value)
    except ValueError:
        return float(value)
