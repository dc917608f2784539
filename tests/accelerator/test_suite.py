"""The suite itself: what is cut off keeps its figures, and mistakes are answered."""

import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from common import ROOT
from tests.accelerator import plan, profile, summary, wheelhouse
from tests.accelerator.part import Part
from tests.accelerator.plan import GOALS, PARTS
from tests.accelerator.summary import Outcome

CPU = {"platform": "cpu", "kind": "cpu", "count": 1, "jax": "0"}


def started(tmp_path, *words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.accelerator", f"--output={tmp_path}", "--tiny", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment,
    )  # fmt: skip


def ended(process, timeout=200):
    stdout, stderr = process.communicate(timeout=timeout)
    return process.returncode, stdout, stderr


def wait_for(condition, seconds=120):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def rows(path, table):
    try:
        return json.loads(path.read_text())["tables"].get(table, [])
    except FileNotFoundError:
        return []


def test_a_part_that_is_killed_keeps_what_it_had_and_the_next_runs(tmp_path):
    """`memory` writes a row as it goes; it is killed after the first one."""
    process = started(tmp_path, "--parts=memory,machine")
    wait_for(lambda: rows(tmp_path / "memory.json", "Memory"))
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    (part,) = map(int, found.stdout.split())
    os.kill(part, signal.SIGKILL)
    code, stdout, _ = ended(process)
    assert code == 1
    assert stdout.startswith(f"There is no accelerator. {summary.ON_A_CPU}\n")
    assert "memory: failed (ended by SIGKILL)" in stdout
    text = (tmp_path / "summary.md").read_text()
    assert rows(tmp_path / "memory.json", "Memory")[0]["steps"] == 40
    assert "| steps | host MB | device MB |\n" in text
    assert "failed: ended by SIGKILL" in text
    assert "| machine | what it is, and measured ceilings | done |" in text
    assert "| memory | at most 16 MB |  | not measured |" in text
    assert f"**{summary.ON_A_CPU}**" in text
    assert "product, bfloat16" in text


def test_sigterm_writes_the_summary(tmp_path):
    process = started(tmp_path, "--parts=machine,equal,right")
    wait_for(lambda: (tmp_path / "equal.log").exists())
    process.terminate()
    code, stdout, _ = ended(process, 30)
    text = (tmp_path / "summary.md").read_text()
    assert code == 75
    assert stdout.endswith(text + "\n")
    assert "| machine | what it is, and measured ceilings | done |" in text
    assert "| stopped: SIGTERM ended the suite |" in text
    assert "| skipped: SIGTERM ended the suite |" in text


def test_the_script_for_a_bare_machine_packs_the_results(tmp_path):
    script = [ROOT / "tests/accelerator/device.sh", tmp_path / "out", "1", "--tiny"]
    nothing = str(tmp_path / "none")
    done = subprocess.run(
        [*script, "--parts=machine,cifar10"], capture_output=True, text=True,
        env=os.environ | {"PYTHON": sys.executable, "WHEELHOUSE": nothing, "DATA": nothing},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "skipped: no data" in (tmp_path / "out" / "summary.md").read_text()
    with tarfile.open(tmp_path / "out" / "accelerator.tar.gz") as archive:
        names = archive.getnames()
    assert {"results/machine.json", "results/machine.log", "results/summary.md"} <= set(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts=machin"], "--parts: unknown 'machin'; did you mean machine?"),
        (["--parts=qqq"], "--parts: unknown 'qqq'; the parts are machine, right,"),
        (["--output=/proc/no/such"], "--output: /proc/no/such: cannot be written (No such file"),
        (["--output="], "--output: is empty; name a folder"),
        (["--minutes=0"], "--minutes: 0.0 is not a positive number"),
        (["--minutes=x"], "argument --minutes: invalid float value: 'x'"),
        (["--data_dir=/no/such"], "--data_dir: /no/such: there is no such folder"),
        (["--wheelhouse=/no/such"], "--wheelhouse: /no/such: has no wheels; `make wheelhouse`"),
        (["--tinny"], "unrecognized arguments: --tinny"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, message):
    code, stdout, stderr = ended(started(tmp_path, *words))
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {message}")
    assert stderr.count("\n") == 1


def test_a_mistake_loses_nothing_of_an_earlier_run(tmp_path):
    for name in ("machine.json", "machine.log", "summary.md"):
        (tmp_path / name).write_text("an earlier run")
    code, _, stderr = ended(started(tmp_path, "--parts=machine", JAX_PLATFORMS="nonsense"))
    told = "error: JAX_PLATFORMS: 'nonsense': unknown 'nonsense'. Known: cpu, cuda, tpu.\n"
    assert (code, stderr) == (2, told)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"an earlier run"}


def test_parts_without_data_or_time_are_skipped_and_said_so(tmp_path):
    code, stdout, _ = ended(started(tmp_path, "--parts=mnist,memory", "--minutes=0.05"))
    assert code == 0
    assert "mnist: skipped (no data: --data_dir has no mnist)" in stdout
    assert "memory: skipped (the time was over)" in stdout
    assert "skipped: no data: --data_dir has no mnist" in (tmp_path / "summary.md").read_text()


def part(tmp_path, name="machine"):
    return Part(name, tmp_path, tmp_path, 60.0, "", tiny=True)


def test_a_unit_that_fails_is_noted_and_the_rest_goes_on(tmp_path):
    one = part(tmp_path)
    assert one.attempt("a", lambda: 1 / 0) is None
    assert one.attempt("b", lambda: 7) == 7
    assert one.failures == 1
    with pytest.raises(RuntimeError, match=r"tests\.accelerator ended with 2"):
        one.program("tests.accelerator", "--nothing")
    one.attempt("c", one.program, "http.server", "0", "--bind=no.such.host.invalid")
    notes = summary.figures(tmp_path, "machine")["notes"]
    assert notes[0] == "a: failed: ZeroDivisionError: division by zero"
    assert notes[1].startswith("c: failed: RuntimeError: http.server ended with 1")


def test_a_program_that_outlasts_its_time_is_stopped(tmp_path):
    looks = []
    one = part(tmp_path)
    server = ("http.server", "0", "--bind=127.0.0.1")
    assert (
        one.attempt("d", lambda: one.program(*server, seconds=4, meanwhile=lambda: looks.append(1)))
        is None
    )
    assert looks
    assert one.failures == 0
    assert summary.figures(tmp_path, "machine")["notes"] == ["d: http.server was stopped after 4 s"]


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        ("resnet50", 1.2, "met"),
        ("resnet50", 0.99, "**missed** by 10 %"),
        ("resnet50", float("nan"), "**missed** by nan %"),
        ("equal", 1e-12, "met"),
        ("equal", 1e-6, "**missed**: 1,000 times the bound"),
        ("cifar10", float("inf"), "**missed**: never"),
        ("cifar10", None, "not measured"),
        ("growth", None, "not asked"),
    ],
)
def test_the_summary_says_of_each_goal_whether_it_was_met(tmp_path, goal, value, verdict):
    asked = {name: Outcome("done", 1.0) for name in PARTS if name != "memory"}
    if value is not None:
        one = part(tmp_path, GOALS[goal].part)
        one.goal(goal, value)
    text = summary.render(tmp_path, asked, device=CPU, about="")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {GOALS[goal].text}")]
    assert line.endswith(f"| {verdict} |")


def test_tables_have_a_column_for_every_cell():
    lines = summary.table([{"a_b": 1, "c": "x|y"}, {"a_b": 12345.6, "d": True}])
    assert lines == ["| a b | c | d |", "| ---: | --- | --- |", "| 1 | x\\|y |  |",
                     "| 12,346 |  | yes |", ""]  # fmt: skip


def test_the_wheelhouse_is_what_the_lock_says_and_the_machine_lacks():
    pins = wheelhouse.missing("3.12")
    locked = wheelhouse.locked("3.12")
    names = [pin.partition("==")[0] for pin in pins]
    assert [locked[name] for name in names] == [pin.partition("==")[2] for pin in pins]
    assert not set(names) & wheelhouse.present("3.12")
    assert {"jax", "numpy", "torch", "ml-dtypes"} <= wheelhouse.present("3.12")
    # What the project imports itself, and what only its requirements require.
    assert {"pydantic", "grain", "tensorflow-datasets", "filelock"} <= set(names)
    assert {"pydantic-core", "array-record", "promise", "etils", "toml"} <= set(names)
    assert locked["jax"] != wheelhouse.locked("3.11")["jax"]


def test_a_requirement_that_is_not_locked_is_named(monkeypatch):
    monkeypatch.setattr(wheelhouse, "locked", lambda python: {})
    with pytest.raises(LookupError, match=r"is required and not in constraints\.txt; `make lock`"):
        wheelhouse.missing("3.12")


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        ({1: "/device:GPU:0", 2: "/host:CPU"}, {"fusion": 2, "copy": 1}),
        ({2: "/host:CPU"}, {"dot": 1}),
    ],
)
def test_operations_of_a_trace_are_those_on_the_device(tmp_path, names, counted):
    def event(pid, tid, name, microseconds):
        return {"ph": "X", "pid": pid, "tid": tid, "name": name, "dur": microseconds}

    threads = {
        (1, 1): "Stream #13(Compute)",
        (1, 2): "Steps",
        (2, 3): "tf_XLAEigen",
        (2, 4): "main",
    }
    events = [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
              for pid, name in names.items()]  # fmt: skip
    events += [{"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
               for (pid, tid), name in threads.items()]  # fmt: skip
    events += [event(1, 1, "fusion.1", 1e6), event(1, 1, "fusion.22", 2e6), event(1, 1, "copy", 5)]
    events += [event(1, 2, "step", 9e6), event(2, 3, "dot.3", 4e6), event(2, 4, "python", 1)]
    with gzip.open(tmp_path / "t.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)
    seconds, calls = profile.operations(tmp_path / "t.trace.json.gz")
    assert calls == counted
    assert seconds.most_common(1)[0][1] == (3.0 if 1 in names else 4.0)


def test_data_is_found_where_launch_looks(tmp_path):
    (tmp_path / "tfds" / "cifar10").mkdir(parents=True)
    (tmp_path / "mnist").mkdir()
    found = [name for name in ("cifar10", "mnist", "svhn") if plan.has_data(str(tmp_path), name)]
    assert found == ["cifar10", "mnist"]
    assert not plan.has_data("", "mnist")
