"""The summary of the accelerator suite, in Markdown. Standard library only."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.accelerator.plan import GOALS, PARTS, Goal

ON_A_CPU = "On a CPU: figures say nothing about accelerators."
LOG_LINES = 12


class Outcome(NamedTuple):
    """What became of a part: `done`, `failed`, `stopped`, `skipped` or `running`, and why."""

    status: str
    seconds: float = 0.0
    reason: str = ""


def figures(output: Path, part: str) -> dict[str, Any]:
    """What a part has written; empty where that is nothing."""
    try:
        found = json.loads((output / f"{part}.json").read_text())
    except (OSError, ValueError):
        found = {}
    return {"tables": {}, "goals": {}, "notes": []} | found


def values(output: Path, parts: Sequence[str]) -> dict[str, float]:
    """{goal: its value} of the goals that some parts have measured."""
    found: dict[str, float] = {}
    for part in parts:
        found |= figures(output, part)["goals"]
    return found


def missed(goal: Goal, value: float) -> bool:
    """Whether a value misses a goal; one that is not finite does."""
    return not (value >= goal.bound if goal.least else value <= goal.bound)


def render(
    output: Path, outcomes: Mapping[str, Outcome], *, device: Mapping[str, Any], about: str
) -> str:
    """The summary.

    Args:
      output: where the parts' JSON and logs are.
      outcomes: of each part that was asked for.
      device: `platform`, `kind`, `count` and `jax`.
      about: how the suite was started.
    """
    lines = ["# Accelerator suite", "", _title(device), "", about, ""]
    if device.get("platform") == "cpu":
        lines += [f"**{ON_A_CPU}**", ""]
    lines += _goals(values(output, list(outcomes)), list(outcomes))
    lines += ["## Parts", ""]
    rows = [
        {
            "part": name,
            "what": PARTS[name].about,
            "outcome": f"{outcome.status}{f': {outcome.reason}' if outcome.reason else ''}",
            "s": round(outcome.seconds) if outcome.seconds else "",
        }
        for name, outcome in outcomes.items()
    ]
    lines += table(rows)
    for name, outcome in outcomes.items():
        lines += _part(output, name, outcome)
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of named cells as the lines of a table; a column for each name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numbers = {name: all(_is_number(row.get(name, "")) for row in rows) for name in names}
    lines = [
        f"| {' | '.join(name.replace('_', ' ') for name in names)} |",
        f"| {' | '.join('---:' if numbers[name] else '---' for name in names)} |",
    ]
    for row in rows:
        cells = (text(row.get(name, "")).replace("|", "\\|") for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def text(value: Any) -> str:
    """A value as a reader wants it."""
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: ""}[value]
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "never" if value > 0 else "not a number"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    if 0.001 <= abs(value) < 999.5:
        return f"{value:.4g}"
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.1e}"


def _title(device: Mapping[str, Any]) -> str:
    if not device:
        return "No device was asked."
    several = f"{device['count']} x " if device["count"] > 1 else ""
    return f"{several}{device['kind']} ({device['platform']}), jax {device['jax']}"


def _is_number(value: Any) -> bool:
    return value == "" or (isinstance(value, int | float) and not isinstance(value, bool))


def _goals(found: Mapping[str, float], asked: Sequence[str]) -> list[str]:
    rows = []
    for name, goal in GOALS.items():
        bound = f"{'at least' if goal.least else 'at most'} {text(goal.bound)} {goal.unit}".strip()
        row = {"goal": goal.text, "part": goal.part, "wanted": bound, "measured": "", "verdict": ""}
        if name in found:
            unit = goal.unit if math.isfinite(found[name]) else ""
            row["measured"] = f"{text(found[name])} {unit}".strip()
            row["verdict"] = _verdict(goal, found[name])
        else:
            row["verdict"] = "not measured" if goal.part in asked else "not asked"
        rows.append(row)
    return ["## Goals", "", *table(rows)]


def _verdict(goal: Goal, value: float) -> str:
    if not missed(goal, value):
        return "met"
    if goal.least:
        return f"**missed** by {100 * (1 - value / goal.bound):.0f} %"
    return f"**missed**: {text(value / goal.bound)}{' times the bound' if value < math.inf else ''}"


def _part(output: Path, name: str, outcome: Outcome) -> list[str]:
    found = figures(output, name)
    lines = [f"## {name}", "", f"{PARTS[name].about[0].upper()}{PARTS[name].about[1:]}.", ""]
    for title, rows in found["tables"].items():
        lines += [f"**{title}**", "", *table(rows)]
    lines += [f"- {note}" for note in found["notes"]]
    lines += [""] if found["notes"] else []
    if outcome.status not in ("done", "running"):
        lines += [f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status, ""]
    log = output / f"{name}.log"
    if outcome.status == "failed" and log.exists():
        last = log.read_text(errors="replace").rstrip().splitlines()[-LOG_LINES:]
        lines += ["The end of its log:", "", *(f"    {line[:200]}" for line in last), ""]
    return lines
