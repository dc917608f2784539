"""Mistakes of the user, told in one or two lines.

Everything that a person can get wrong ends as a `UserError`: `launch` prints its text and exits
with code 2, without a traceback. The text names the place, the value, what is allowed and, where a
name was misspelt, the nearest one.
"""

import difflib
from collections.abc import Iterable
from typing import Any


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
