"""How a program starts and ends, and the errors of wrong flags."""

import os
import re
import subprocess
import sys
import types

import pytest
from absl import flags as absl

from cnnjax.errors import UserError
from common import ROOT
from launch import flags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5-2", "--seeds: 5-2 is reversed; write 2-5."),
        ("0,7-3", "--seeds: 7-3 is reversed; write 3-7."),
        ("a", "--seeds: 'a' is not valid; write 0,1,2 or 0-9"),
        ("²", "write 0,1,2 or 0-9"),
        ("0-9999,10000-10001", "--seeds: are more than 10,000 seeds."),
        ("0-100000000", "more than 10,000"),
    ],
)
def test_invalid_seeds_are_errors(text, message):
    with pytest.raises(UserError) as caught:
        flags.seeds(text)
    assert message in str(caught.value)


def test_the_error_of_a_flag_names_the_programs_that_have_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/launch/train.py"])
    told = flags._explain(absl.UnrecognizedFlagError("workers", "2"))
    assert told == "--workers: is not a flag of launch.train; launch.sweep takes it."
    told = flags._explain(absl.UnrecognizedFlagError("arms", "2"))
    assert told == "--arms: is not a flag of launch.train; launch.sweep takes it."
    assert "See --help." in flags._explain(absl.UnrecognizedFlagError("wokers", "2"))


@pytest.mark.parametrize("value", ["1e20", "0", "9" * 20])
def test_a_number_out_of_bounds_says_what_is_allowed(value):
    values = absl.FlagValues()
    absl.DEFINE_integer("threads", None, "", 1, 4096, flag_values=values)
    with pytest.raises(absl.IllegalFlagValueError) as caught:
        values(["x", f"--threads={value}"])
    text = flags._explain(caught.value)
    assert text == f"--threads: '{value}' is not valid; allowed: a whole number, 1 to 4,096."


def test_the_table_of_programs_is_that_of_the_readme():
    """Every flag in the README says which programs take it, as they do."""
    text = (ROOT / "README.md").read_text().partition("| flag |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `--(\w+)[^|]*` \| ([a-z, ]+) \| ", text, re.MULTILINE)
    assert len(rows) > 10
    for name, programs in rows[:-1]:
        takers = [taker for taker, words in flags.PROGRAMS.items() if name in words.split()]
        assert programs.split(", ") == [taker for taker in takers if taker != "time_arm"], name


PROGRAM = """
from launch import flags

def main(arguments):
    {body}

flags.start("train", main)
"""


def start(body, *words, cwd=ROOT):
    code = PROGRAM.format(body=body)
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_fault_prints_one_line_exits_with_70_and_writes_its_traceback(tmp_path):
    done = start("None + 1", f"--workdir={tmp_path}")
    assert done.returncode == 70
    assert "Traceback" not in done.stderr
    match = re.fullmatch(
        r"error: internal: TypeError: .*; the whole traceback is in (\S+)\n", done.stderr
    )
    assert match
    (kept,) = (tmp_path / "logs").iterdir()
    assert match[1] == str(kept)
    assert kept.read_text().startswith("Traceback (most recent call last)")
    done = start("None + 1", "--workdir=nowhere", cwd=tmp_path)
    assert done.returncode == 70
    assert "tracebacks" in done.stderr
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "w").mkdir()
    (tmp_path / "w/logs").symlink_to(tmp_path / "logs")
    assert "tracebacks" in start("None + 1", "--workdir=w", cwd=tmp_path).stderr
    assert len(list((tmp_path / "logs").iterdir())) == 1  # nothing is written through a link


def test_a_program_that_was_stopped_exits_with_75():
    done = start("raise flags.Stopped('stopped by SIGTERM at step 3 of 9')")
    assert done.returncode == 75
    assert done.stderr == (
        "stopped by SIGTERM at step 3 of 9; the same command goes on from here.\n"
    )


def test_a_path_that_is_too_long_is_a_mistake_of_the_user(tmp_path):
    done = start("from pathlib import Path; Path('x' * 300).is_dir()", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "File name too long" in done.stderr


def test_a_path_with_a_line_break_is_a_mistake_of_the_user():
    """A command of --commands would continue on the next line."""
    done = start("print(flags.path('workdir'))", "--workdir=a\nb")
    assert (done.returncode, done.stdout) == (2, "")
    assert r"--workdir: 'a\nb' has a character that cannot be in a path here" in done.stderr


def test_a_value_is_json_or_text():
    assert [flags.parse_value(text) for text in ("1", "[8, 8]", "relu", "NaN", "[1,")] == [
        1, [8, 8], "relu", "NaN", "[1,",
    ]  # fmt: skip
    for text in ("1e999", "1" * 5000, "[" * 100_000, '"\\ud800"'):
        with pytest.raises(UserError, match="is not valid: ") as caught:
            flags.parse_value(text)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"pattern": "conv1", "rate": NaN}]', "NaN is not JSON"),
        ("[{'pattern': 'conv1'}]", "Expecting property name enclosed in double quotes"),
        ('{"pattern": "conv1"', "Expecting ',' delimiter"),
    ],
)
def test_a_table_must_be_json(text, reason, monkeypatch):
    monkeypatch.setattr(flags, "FLAGS", {"set": types.SimpleNamespace(value=[])})
    with pytest.raises(UserError) as caught:
        flags.changes([f"optimizer.groups={text}"])
    assert f"cannot be read: {reason}; names and text are written in" in str(caught.value)
    assert caught.value.path == "optimizer.groups"


def test_unawaited_reads_of_orbax_print_no_traceback(monkeypatch):
    passed_on = []
    monkeypatch.setattr(sys, "__unraisablehook__", passed_on.append)
    for file in ("/x/site-packages/orbax/checkpoint/serialization.py", "/x/mine.py"):
        code = types.SimpleNamespace(co_filename=file)
        coroutine = types.SimpleNamespace(cr_code=code)
        flags._unraisable(types.SimpleNamespace(object=coroutine, exc_value=ValueError("no")))
    assert [event.object.cr_code.co_filename for event in passed_on] == ["/x/mine.py"]
