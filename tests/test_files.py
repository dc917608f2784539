import errno
import json
import os
import subprocess
import sys

import pytest

from cnnjax import files
from cnnjax.errors import UserError, nearest, unknown
from common import ROOT


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_json(path, {"old": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"result.json: cannot be written: No space left"):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_torn_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nxx\n[]\n{"step": 2}\n{"st')
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}]
    assert files.read_lines(tmp_path / "none") == []


def test_a_lock_is_held_against_other_processes_and_ends_with_the_block(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cnnjax import files\n"
        "with files.lock(Path(sys.argv[1]), wait=False) as mine: print(mine)"
    )

    def other():
        words = [sys.executable, "-c", code, str(tmp_path / "lock")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with files.lock(tmp_path / "lock", wait=False) as mine:
        assert mine
        assert other() == "False"
    assert other() == "True"


def test_nearest_names():
    assert nearest("rellu", ["relu", "tanh"]) == "relu"
    assert nearest("zzz", ["relu", "tanh"]) is None
    text = str(unknown("model.activation", "rellu", ["relu", "tanh"]))
    assert text == "model.activation: unknown 'rellu'. Did you mean 'relu'? Known: relu, tanh."
