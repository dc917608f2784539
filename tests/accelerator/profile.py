"""Where the time goes in the cases that missed their goals: a trace, and its top operations."""

import collections
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.accelerator import summary
from tests.accelerator.part import Part
from tests.accelerator.plan import GOALS

CASES = {  # goal: network, batch size, precision, the contender's way
    "resnet50": ("resnet50", 256, "bfloat16", "1 step"),
    "replicas": ("lenet5_modern", 128, "float32", "32 replicas"),
}
STEPS, TOP = 5, 15
LARGEST = 6 << 20  # bytes of a trace that is kept


def profile(part: Part) -> None:
    """Profiles each case whose goal was missed; in a rehearsal one, and the flag of `launch`."""
    found = summary.values(part.output, [GOALS[goal].part for goal in CASES])
    missed = [goal for goal, value in found.items()
              if goal in CASES and summary.missed(GOALS[goal], value)]  # fmt: skip
    if part.tiny:
        missed = ["replicas"]
    elif not missed:
        part.note("no goal of speed was missed: no train step is traced")
    for goal in missed:
        part.attempt(goal, _case, part, goal)
    part.attempt("launch.train --profile", _run, part)


def _case(part: Part, goal: str) -> None:
    """Traces train steps of the benchmark's contender."""
    from launch import contender

    network, batch, precision, way = CASES[goal]
    if part.tiny:
        batch, way = 4, "2 replicas"
    make = "import sys, pathlib; from launch.contender import write_task as task; a = sys.argv; "
    make += "task(pathlib.Path(a[1]), a[2], int(a[3]), a[4], 1)"
    folder = part.work / goal
    folder.mkdir()
    subprocess.run([sys.executable, "-c", make, str(folder), network, str(batch), precision],
                   check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})  # fmt: skip
    step, _ = contender.prepare(json.loads((folder / "task.json").read_text()), "xla", way)
    for _ in range(3):
        step()
    import jax

    with jax.profiler.trace(str(folder / "trace")):
        for _ in range(STEPS):
            step()
    _tell(part, f"{network}, {precision}, batch {batch}, {way}", folder / "trace", STEPS)


def _run(part: Part) -> None:
    """A trace that `launch.train` keeps."""
    folder = part.work / "run"
    part.program(
        "launch.train", "--experiment=quickstart", "--arm=relu_bn", "--seeds=0", "--replicas=1",
        f"--workdir={part.work / 'traced'}", f"--profile={folder}",
        f"--set=training.steps={40 if part.tiny else 200}",
    )  # fmt: skip
    _tell(part, "quickstart, relu_bn", folder, None)


def _tell(part: Part, title: str, folder: Path, steps: int | None) -> None:
    """Prints the top operations of a trace, and keeps the trace where it is small."""
    traces = sorted(folder.rglob("*.trace.json.gz"))
    if not traces:
        raise RuntimeError(f"{folder} holds no *.trace.json.gz")
    seconds, calls = operations(traces[-1])
    total = sum(seconds.values())
    for name, took in seconds.most_common(TOP):
        per = {"ms_a_step": 1e3 * took / steps} if steps else {"ms": 1e3 * took}
        part.row(f"Top operations: {title}", operation=f"`{name}`", **per,
                 calls=calls[name], share=took / total)  # fmt: skip
    if traces[-1].stat().st_size <= LARGEST:
        kept = part.output / "kept" / f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}.trace.json.gz"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(traces[-1], kept)
        part.note(f"the trace is kept as {kept.relative_to(part.output)}; Perfetto opens it")


def operations(trace: Path) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """The seconds and the calls of each operation on the device, in a trace of jax.profiler.

    Numbers at the end of a name are left out: `fusion.12` is a `fusion`.
    """
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    lines = set(_device_lines(events))
    seconds: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and (event["pid"], event["tid"]) in lines:
            name = re.sub(r"[._]\d+$", "", event["name"])
            seconds[name] += event.get("dur", 0) / 1e6
            calls[name] += 1
    return seconds, calls


def _device_lines(events: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """(process, thread) of the lines that hold operations: those of devices; of a CPU, the threads
    that XLA computes with."""
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    threads = {
        (e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"
    }
    devices = {pid for pid, name in names.items() if "/device:" in name}
    if not devices:
        yield from (line for line, name in threads.items() if "XLA" in name)
        return
    own = {line: name for line, name in threads.items() if line[0] in devices}
    computing = [line for line, name in own.items() if name.startswith("XLA Ops")]
    yield from computing or [line for line, name in own.items() if name.startswith("Stream")]
