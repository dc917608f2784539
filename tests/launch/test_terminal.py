"""No file makes a terminal do anything."""

import io
import json
import sys

import pytest

from launch import terminal

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\udcff\r"


def test_what_a_terminal_would_obey_is_shown_as_escapes():
    shown = terminal.printable(f"é 日本 100\u00a0%\t{HOSTILE}\n")
    assert shown == (
        "é 日本 100\u00a0%\t\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202ereversed\\udcff\\r\n"
    )


def test_programs_print_nothing_else(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    terminal.guard()
    terminal.guard()
    print(json.loads('"\\u001b[31m"'))
    print("\x1b[31m", file=sys.stderr, flush=True)
    assert sys.stdout.getvalue() == sys.stderr.getvalue() == "\\x1b[31m\n"


def test_every_program_is_guarded(monkeypatch):
    from launch import flags

    guarded = []
    monkeypatch.setattr(flags.terminal, "guard", lambda: guarded.append(True))
    monkeypatch.setattr(flags.app, "run", lambda main, flags_parser: sys.exit(0))
    with pytest.raises(SystemExit):
        flags.start(lambda _: 0)
    assert guarded == [True]
