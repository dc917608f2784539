"""Reads the files of a sweep into a `Study`. A damaged file affects only its run.

A run's status is that of its `result.json` (`finished`, `diverged`, `failed`), or `unreadable` (the
file exists but is not valid), `unfinished` (started, no result yet), `missing`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cnnjax import files, metric, result
from cnnjax.ablation import claims, record
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.results import Arm, Run, Study
from cnnjax.errors import UserError
from cnnjax.metric import Metric
from cnnjax.result import Figures
from cnnjax.validation import Count, Number


class _ValidationFigures(Figures):
    """A line of metrics.jsonl about the validation split."""

    split: Literal["validation"]
    step: Count
    epoch: Number = Field(ge=0)


def load(workdir: str | Path, split: str = "validation") -> Study:
    """Reads a workdir. Raises UserError if its study.json is missing or not valid."""
    workdir = Path(workdir)
    about = record.read(workdir)
    metrics = tuple(map(metric.from_dict, about["metrics"])) or metric.CLASSIFICATION
    arms = tuple(_arm(workdir, name, about, metrics[0]) for name in about["arms"])
    return Study(about, arms, claims_of(workdir, about, metrics), workdir, split, metrics)


def claims_of(
    workdir: Path, about: Mapping[str, Any], metrics: Sequence[Metric]
) -> tuple[tuple[Claim, bool], ...]:
    """The claims of a study, each with whether it was made after there were results. Raises
    UserError for one that makes no sense."""
    try:
        return tuple(
            (claims.from_dict(values, metrics), bool(values.get("post_hoc")))
            for values in about["claims"]
        )
    except ValueError as error:
        raise UserError(f"{workdir / 'study.json'}: claims: {error}.") from None


def _arm(workdir: Path, name: str, study: Mapping[str, Any], primary: Metric) -> Arm:
    """An arm with its runs: those that were requested, and those that are there."""
    seeds = {
        seed
        for part in study["extensions"] or [study]
        if name in (part["arms"] or study["arms"])
        for seed in part["seeds"] or study["seeds"]
    }
    for folder in (workdir / name).glob("seed-*"):
        number = folder.name.removeprefix("seed-")
        seeds |= {int(number)} if number.isdecimal() and str(int(number)) == number else set()
    about = study["arms"][name]
    runs = tuple(
        _run(workdir / name / f"seed-{seed}", name, about["block"], seed, about["config"], primary)
        for seed in sorted(seeds)
    )
    levels = about["levels"] or about["overrides"]
    block, baseline = about["block"], about["baseline"]
    return Arm(name, block, baseline, about["overrides"], about["config"], runs, levels)


def _run(
    folder: Path, arm: str, block: str, seed: int, config: Mapping[str, Any], primary: Metric
) -> Run:
    config = _config(folder / "config.json") or config
    curve = _curve(folder / "metrics.jsonl", primary)
    path = folder / "result.json"
    if not os.path.lexists(path):
        status = "unfinished" if folder.is_dir() else "missing"
        return Run(arm, block, seed, status, "", config, curve, primary=primary)
    try:
        run_result = result.read(path)
    except UserError as error:
        text = str(error).removeprefix(f"{folder}{os.sep}")
        return Run(arm, block, seed, "unreadable", text, config, curve, primary=primary)
    status, text = run_result.status, run_result.error
    return Run(arm, block, seed, status, text, config, curve, run_result, primary)


def _curve(path: Path, primary: Metric) -> tuple[tuple[int, float, float], ...]:
    """(step, epoch, value) on the validation split by step; damaged lines are skipped."""
    points = {}
    try:
        lines = files.read_lines(path)
    except UserError:
        return ()
    for line in lines:
        try:
            point = _ValidationFigures.model_validate(line)
        except ValidationError:
            continue
        value, (low, high) = point.get(primary.name), primary.ends
        if value is not None and low <= value <= high:
            points[point.step] = (point.step, point.epoch, value)
    return tuple(points[step] for step in sorted(points))


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = files.read_json(path)
    except UserError:
        return {}
    return config if isinstance(config, dict) else {}
