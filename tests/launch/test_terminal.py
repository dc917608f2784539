"""Control characters in output are escaped."""

import io
import json
import sys

import pytest

from launch import terminal

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\udcff\r"


def test_control_characters_are_shown_as_escapes():
    shown = terminal.printable(f"é 日本 100\u00a0%\t{HOSTILE}\n")
    assert shown == (
        "é 日本 100\u00a0%\t\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202ereversed\\udcff\\r\n"
    )


def test_printed_text_is_escaped(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    terminal.guard()
    terminal.guard()
    print(json.loads('"\\u001b[31m"'))
    print("\x1b[31m", file=sys.stderr, flush=True)
    assert sys.stdout.getvalue() == sys.stderr.getvalue() == "\\x1b[31m\n"


def test_every_program_escapes_its_output(monkeypatch):
    from launch import flags

    guarded = []
    monkeypatch.setattr(flags.terminal, "guard", lambda: guarded.append(True))
    monkeypatch.setattr(flags.app, "run", lambda main, flags_parser: sys.exit(0))
    with pytest.raises(SystemExit):
        flags.start("prepare", lambda _: 0)
    assert guarded == [True]
