"""Mistakes of the user, told in one or two lines.

Everything that a person can get wrong ends as a `UserError`: `launch` prints its text and exits
with code 2, without a traceback. The text names the place, the value, what is allowed and, where a
name was misspelt, the nearest one.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


class UserError(Exception):
    """A mistake in the input; the message says what to type instead."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is near."""
    matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(where: str, name: Any, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a table: lists the known ones and the nearest."""
    known = list(known)
    near = nearest(str(name), known)
    hint = f" Did you mean {near!r}?" if near else ""
    return UserError(f"{where}: unknown {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


def unknown_path(path: str, known: Iterable[str]) -> UserError:
    """The error for a dotted path that is not among the `known` fields."""
    known = list(known)
    rooms = {
        ".".join(name.split(".")[:end]) for name in known for end in range(1, name.count(".") + 1)
    }
    room, _, _ = path.rpartition(".")
    near = nearest(path, rooms) or nearest(path, known)
    siblings = [name for name in known if name.startswith(f"{room}." if room else "")]
    if near:
        return UserError(f"{path}: unknown; did you mean {near}?")
    allowed = siblings if room in rooms else sorted(room for room in rooms if "." not in room)
    return UserError(f"{path}: unknown. Known: {', '.join(allowed)}.")


def explain(error: ValidationError, known: Iterable[str]) -> str:
    """What pydantic found wrong, in two lines at most: path, value, what is allowed, nearest."""
    known = list(known)
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "inconsistent":
            lines.append(item["msg"])
        elif item["type"] == "extra_forbidden":
            lines.append(str(unknown_path(path, known)))
        else:
            allowed = item["msg"][0].lower() + item["msg"][1:]
            if item["type"] == "literal_error":
                allowed = "allowed: " + item["ctx"]["expected"].replace("'", "").replace(
                    " or ", ", "
                )
            near = nearest(str(item["input"]), allowed.removeprefix("allowed: ").split(", "))
            hint = f"; did you mean {near}?" if near else ""
            lines.append(f"{path}: {item['input']!r} is not valid; {allowed}{hint}")
    return "\n".join(dict.fromkeys(lines[:2] if len(lines) > 2 else lines))
