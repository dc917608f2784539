"""Escapes control characters in output, since files of others must not control a terminal."""

import re
import sys
from typing import Any, TextIO

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u200e\u200f\u2028-\u202e\u2066-\u2069"  # characters that change the direction of text
    "\ud800-\udfff]"  # bytes of a file name that cannot be decoded
)


def printable(text: str) -> str:
    """Text with each control character written as an escape, `\\x1b`."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class _Printable:
    """A stream that escapes control characters."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Escapes control characters in the standard output and error of this program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Printable):
            setattr(sys, name, _Printable(stream))
