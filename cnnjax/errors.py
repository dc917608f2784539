"""Mistakes of the user, told in one or two lines.

Everything that a person can get wrong ends as a `UserError`: `launch` prints its text and exits
with code 2, without a traceback. The text names the place, the value, what is allowed and, where a
name was misspelt, the nearest one.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError


class UserError(Exception):
    """A mistake in the input; the message says what to type instead. `path` is the dotted path of
    the field that is wrong, or the flag, where it is one."""

    def __init__(self, text: str, *, path: str | None = None):
        super().__init__(text)
        self.path = path


class MachineError(UserError):
    """The machine or a disk refuses something just now (input/output error, too many open files, no
    room): no mistake of the user and no result of a run, which the same command continues later.
    `errno` is the system's number for it, where it gave one."""

    def __init__(self, text: str, *, errno: int | None = None):
        super().__init__(text)
        self.errno = errno


class NoRoom(UserError):
    """A device has less memory than a run needs; the message names the fields that help."""


class Mismatch(UserError):
    """Stored variables do not fit a network: the paths of entries that are `missing`, `extra`, or
    `different` in shape or dtype."""

    def __init__(
        self,
        text: str,
        *,
        missing: Iterable[str],
        extra: Iterable[str],
        different: Iterable[str],
    ):
        super().__init__(text)
        self.missing, self.extra, self.different = map(tuple, (missing, extra, different))

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return self.missing + self.extra + self.different


class Stopped(BaseException):
    """A program was asked to stop; the message says by what, and where. Not an Exception, as
    KeyboardInterrupt is none, so that nothing takes it for a fault of a run."""


def place(error: BaseException, folder: Path) -> str:
    """`mine.py, line 3: `, the last line of the files in `folder` that an error came by; empty
    where it did not come by any."""
    found, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.parent == folder:
            found = f"{file.name}, line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found


def in_a_line(error: BaseException, file: Path) -> str:
    """An error in one line, with the line of a user's file, or of one beside it, that it came
    from."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{place(error, file.parent)}{type(error).__name__}: {text}"


LONGEST = 200
"""How much of a value a message shows."""


def shown(value: Any) -> str:
    """A value as it stands in a message: cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        return "a number of thousands of digits"
    except RecursionError:
        return "a value that is nested too deeply"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]} ... {text[-15:]}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is near."""
    if len(name) > LONGEST:
        return None
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(where: str, name: Any, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a table: lists the known ones and the nearest."""
    known = list(known)
    near = nearest(name, known) if isinstance(name, str) else None
    hint = f" Did you mean {near!r}?" if near else ""
    return UserError(f"{where}: unknown {shown(name)}.{hint} Known: {', '.join(known) or 'none'}.")


def unknown_path(path: str, known: Iterable[str]) -> UserError:
    """The error for a dotted path that is not among the `known` fields: the nearest name in the
    same room, else the field or room whose path ends like it."""
    return UserError(_of_unknown(path, known), path=path)


def _of_unknown(path: str, known: Iterable[str]) -> str:
    places: dict[str, None] = {}
    for name in known:
        parts = name.split(".")
        places.update((".".join(parts[:end]), None) for end in range(1, len(parts) + 1))
    room = path.rpartition(".")[0]
    beside = [place for place in places if place.rpartition(".")[0] == room]
    path = _cut(path)
    if path in places:
        return f"{path}: is a field; no fields are below it."
    near = nearest(path, beside) or _ending(path, places) or nearest(path, places)
    if near:
        return f"{path}: unknown; did you mean {near}?"
    top = sorted(place for place in places if "." not in place)
    return f"{path}: unknown. Known: {', '.join(beside or top)}."


def _ending(path: str, places: Iterable[str]) -> str | None:
    return next((place for place in places if place.endswith(f".{path}")), None)


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
"""What is allowed, by what pydantic calls the error; its own sentences are for programmers."""


def field(error: ValidationError) -> str:
    """The dotted path of the first field that pydantic found wrong."""
    first: Any = error.errors()[0]
    named = first.get("ctx", {}).get("path") or _dotted(first["loc"])
    return str(named.partition("[")[0])


def _dotted(parts: Iterable[str | int]) -> str:
    """`optimizer.groups[0].rate`."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part if part.isprintable() else repr(part)}"
    return path.removeprefix(".")


def explain(error: ValidationError, known: Iterable[str]) -> str:
    """What pydantic found wrong, in two lines at most: path, value, what is allowed, nearest. In
    `known`, `[]` stands for any place in a list."""
    known = list(known)
    lines = []
    for item in error.errors():
        given = item["input"]
        path = _cut(_dotted(item["loc"]))
        if item["type"] == "inconsistent":
            lines.append(item["msg"])
        elif item["type"] == "missing":
            lines.append(f"{path}: is missing")
        elif item["type"] == "extra_forbidden":
            place = next((f"[{part}]" for part in item["loc"] if isinstance(part, int)), "[]")
            lines.append(_of_unknown(path, [name.replace("[]", place) for name in known]))
        else:
            allowed = _allowed(path, item)
            names = allowed.removeprefix("allowed: ").split(", ")
            near = nearest(given, names) if isinstance(given, str) else None
            hint = f"; did you mean {near}?" if near else ""
            where = f"{path}: " if path else ""
            lines.append(f"{where}{shown(given)} is not valid; {allowed}{hint}")
    return "\n".join(dict.fromkeys(lines[:2] if len(lines) > 2 else lines))


def _allowed(path: str, item: Any) -> str:
    """What is allowed in the place of what pydantic found wrong."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "tuple_type":
        return f"write a list: {path}={_as_list(item['input'])}"
    if kind == "literal_error":
        names = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"allowed: {names}"
    for limit, words in _LIMITS.items():
        if limit in context:
            bound = context[limit]
            number = "a whole number" if isinstance(bound, int) else "a number"
            return f"allowed: {number}, {words} {bound:,.12g}"
    return f"allowed: {_ALLOWED[kind]}" if kind in _ALLOWED else item["msg"]


def _as_list(value: Any) -> str:
    """What was meant where a list is wanted."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    try:
        return _cut(json.dumps([_number(part) for part in parts]))
    except (TypeError, ValueError, OverflowError):
        return _cut(json.dumps(parts)) if isinstance(value, str) else f"[{shown(value)}]"


def _number(value: Any) -> float:
    """The number that is meant, whole where it is written so."""
    try:
        return value if isinstance(value, int | float) else int(value)
    except ValueError:
        return float(value)
