"""Whole studies: the first one, the MNIST recipe, and what only an accelerator allows."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.accelerator import summary
from tests.accelerator.part import Part, results

STEPS, BATCH, PER_CALL = 64_000, 128, 50  # of experiments/cifar10.py, and between its log lines
DEPTHS = (20, 56, 110)
ONE_PROCESS = ("--workers=1", "--steps_per_call=10")  # the steps between two lines of most studies
TARGET = 0.94
SHARE = 0.7  # of the steps' speed that a whole run has, with evaluation and checkpoints


def quickstart(part: Part) -> None:
    """The first study: seeds together, one after another, and several steps a call."""
    sizes = ["--arms=relu,sigmoid_bn", "--seeds=0,1", "--set=training.steps=6"]
    ways = {
        "seeds together, 10 steps a call": [*ONE_PROCESS, "--replicas=8"],
        "one after another": ["--replicas=1"],
        "one after another, 10 steps a call": [*ONE_PROCESS, "--replicas=1"],
        "as measured": [],
    }
    for way, words in ways.items():
        part.attempt(way, _sweep, part, "quickstart", way, [*words, *(sizes if part.tiny else [])])


def mnist(part: Part) -> None:
    """The recipe, 3 seeds, together and one after another."""
    data = [f"--data_dir={part.data_dir}", "--arms=recipe"]
    tiny = ["--seeds=0,1", "--set=training.steps=4"] if part.tiny else []
    part.attempt("data", _prepare, part, "mnist")
    for way, words in {
        "seeds together, 10 steps a call": [*ONE_PROCESS, "--replicas=3"],
        "one after another": ["--replicas=1"],
    }.items():
        part.attempt(way, _sweep, part, "mnist", way, [*words, *data, *tiny])


def cifar10(part: Part) -> None:
    """The whole recipe, of as many seeds together as the time allows."""
    part.attempt("data", _prepare, part, "cifar10")
    number = 2 if part.tiny else _seeds_in(part)
    words = [f"--seeds=0-{number - 1}", f"--replicas={number}"] if number > 1 else ["--seeds=0"]
    part.attempt(f"{number} seeds", _as_far_as, part, "resnet20", part.left, words)


def residual(part: Part) -> None:
    """Deeper and deeper, at full size, with an equal share of the time for each."""
    part.attempt("data", _prepare, part, "cifar10")
    depths = DEPTHS[:1] if part.tiny else DEPTHS
    for number, depth in enumerate(depths):
        share = part.left / (len(depths) - number)
        words = ["--seeds=0", f"--set=model.name=resnet{depth}"]
        part.attempt(f"resnet{depth}", _as_far_as, part, f"resnet{depth}", share, words)


def _prepare(part: Part, name: str) -> None:
    took = part.program("launch.prepare", f"--data={name}", f"--data_dir={part.data_dir}")
    part.note(f"{name} was prepared in {took:.0f} s")


def _sweep(part: Part, experiment: str, way: str, words: list[str]) -> None:
    """A sweep with its report, as a user starts it."""
    workdir, left = part.work / re.sub(r"[^a-z0-9]+", "-", way), part.left
    try:
        part.program("launch.sweep", f"--experiment={experiment}", f"--workdir={workdir}", *words)
    finally:  # what had ended counts where the time was over, too
        took, runs = left - part.left, results(workdir)
        if runs:
            part.row("Sweeps", way=way, seconds=took, runs=len(runs),
                     runs_an_hour=3600 * len(runs) / took, **_means(runs))  # fmt: skip
        _keep(part, workdir)


def _means(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    tested = [run["test"]["accuracy"] for run in runs.values() if run.get("test")]
    first = next(iter(runs.values()))
    return {
        "test_%": 100 * sum(tested) / len(tested) if tested else "",
        "seconds_a_run": sum(run["seconds"] for run in runs.values()) / len(runs),
        "steps_a_call": first["runtime"].get("steps_per_call", ""),
        "trained": first["runtime"].get("replicas", ""),
    }


def _seeds_in(part: Part) -> int:
    """How many seeds the measured speed of replicas takes through the recipe in the time left."""
    rows = summary.figures(part.output, "speed_replicas")["tables"].get("Replicas", [])
    fitting = [1]
    for row in rows:
        if row["network"] == "resnet20" and row["precision"] == "float32":
            needed = row["replicas"] * STEPS * BATCH / (SHARE * row["images_per_second"])
            fitting += [row["replicas"]] if needed < part.left else []
    return max(fitting)


def _as_far_as(part: Part, title: str, seconds: float, words: list[str]) -> None:
    """The recipe until it ends or the time is over; says how far it got."""
    workdir = part.work / title
    words += [f"--workdir={workdir}", f"--data_dir={part.data_dir}"]
    words += ["--set=evaluation.every_epochs=2", f"--steps_per_call={2 if part.tiny else PER_CALL}"]
    if part.tiny:
        words += ["--set=training.steps=4", "--set=training.batch_size=4"]

    def look() -> None:
        rows = list(_progress(workdir, title))
        part.replace(f"{title}: how far", rows)
        reached = [row["s_to_94_%"] for row in rows if row["s_to_94_%"] != "not reached"]
        if part.name == "cifar10" and rows:
            part.goal("cifar10", min(reached, default=math.inf))

    try:
        part.program("launch.train", "--experiment=cifar10", "--arm=resnet20", *words,
                     seconds=seconds, meanwhile=look)  # fmt: skip
    except TimeoutError as stopped:
        part.note(f"{title}: {stopped}, which is as far as the time went")
    look()
    _keep(part, workdir)


def _progress(workdir: Path, network: str) -> Iterator[dict[str, Any]]:
    """How far the runs of a study are."""
    for path in sorted(workdir.glob("*/seed-*/metrics.jsonl")):
        lines = _lines(path)
        checked = [line for line in lines if line["split"] == "validation"]
        reached = [line["seconds"] for line in checked if line["accuracy"] >= TARGET]
        result = path.with_name("result.json")
        ended = json.loads(result.read_text()) if result.exists() else {}
        tested = (ended.get("test") or {}).get("accuracy")
        yield {
            "network": network,
            "seed": path.parent.name[5:],
            "step": max((line["step"] for line in lines), default=0),
            "of": STEPS,
            "seconds": max((line["seconds"] for line in lines), default=0.0),
            "best_validation_%": 100 * max((line["accuracy"] for line in checked), default=0.0),
            "test_%": 100 * tested if tested is not None else "",
            "s_to_94_%": reached[0] if reached else "not reached",
        }


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that is being written."""
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _keep(part: Part, workdir: Path) -> None:
    """Keeps what is small of a study: results, figures by step, the report."""
    for pattern in ("*/seed-*/result.json", "*/seed-*/metrics.jsonl", "report.md"):
        for path in workdir.glob(pattern):
            target = part.output / "kept" / part.name / path.relative_to(workdir.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
