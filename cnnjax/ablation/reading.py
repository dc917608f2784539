"""The result files of a sweep, read into plain values. Only reads; a bad file spoils only its run.

A run's status is that of its `result.json` (`finished`, `diverged`, `failed`), or `unreadable`
(the file is there but cannot be used), `unfinished` (started, no result yet), `missing`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.ablation import claims
from cnnjax.ablation.claims import Claim
from cnnjax.ablation.results import METRICS, STATUSES, Arm, Run, Study
from cnnjax.errors import UserError


def load(workdir: str | Path, split: str = "validation") -> Study:
    """Read a workdir. Raises UserError where its study.json is missing or unusable."""
    workdir = Path(workdir)
    path = workdir / "study.json"
    try:
        about = _read(path)
    except FileNotFoundError:
        raise UserError(
            f"workdir: {workdir} holds no study.json; give the folder that a sweep wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"workdir: {path} cannot be read ({_one_line(error)}).") from None
    arms = about.get("arms") if isinstance(about, dict) else None
    if not isinstance(arms, dict) or not all(isinstance(arm, dict) for arm in arms.values()):
        raise UserError(f"workdir: {path} has no table of arms; it was not written by a sweep.")
    expected = _expected(about)
    read = tuple(_arm(workdir, name, arms[name], expected) for name in arms)
    return Study(about, read, _claims(path, about), workdir, split)


def _claims(path: Path, about: Mapping[str, Any]) -> tuple[tuple[Claim, bool], ...]:
    """The claims, each with whether it was made after results were there. Raises UserError."""
    try:
        return tuple(
            (claims.read(values), bool(values.get("post_hoc")))
            for values in _list(about.get("claims"))
        )
    except (ValueError, AttributeError) as error:
        raise UserError(f"workdir: {path}: claims: {_one_line(error)}.") from None


def _expected(about: Mapping[str, Any]) -> set[tuple[str, int]]:
    """(arm, seed) of every run that was asked for."""
    parts = [_mapping(part) for part in _list(about.get("extensions"))] or [about]
    return {
        (str(arm), seed)
        for part in parts
        for arm in (part.get("arms") or about["arms"])
        for seed in _list(part.get("seeds") or about.get("seeds"))
        if isinstance(seed, int)
    }


def _arm(workdir: Path, name: str, about: Mapping[str, Any], expected: set[Any]) -> Arm:
    config = _mapping(about.get("config"))
    block = str(about.get("block") or "")
    seeds = {seed for arm, seed in expected if arm == name}
    for folder in (workdir / name).glob("seed-*"):
        number = folder.name.removeprefix("seed-")
        seeds |= {int(number)} if number.isdecimal() and str(int(number)) == number else set()
    runs = tuple(
        _run(workdir / name / f"seed-{seed}", name, block, seed, config) for seed in sorted(seeds)
    )
    overrides = _mapping(about.get("overrides"))
    levels = _mapping(about.get("levels")) or overrides
    return Arm(name, block, bool(about.get("baseline")), overrides, config, runs, levels)


def _run(folder: Path, arm: str, block: str, seed: int, config: Mapping[str, Any]) -> Run:
    own = _config(folder / "config.json") or config
    curve = _curve(folder / "metrics.jsonl")
    empty = dict.fromkeys(METRICS)
    try:
        result = _read(folder / "result.json")
        metrics = _metrics(result)
    except FileNotFoundError:
        status = "unfinished" if folder.is_dir() else "missing"
        return Run(arm, block, seed, status, "", empty, own, curve)
    except (OSError, ValueError) as error:
        text = f"result.json: {_one_line(error)}"
        return Run(arm, block, seed, "unreadable", text, empty, own, curve)
    return Run(
        arm,
        block,
        seed,
        result["status"],
        str(result.get("error") or ""),
        metrics,
        own,
        curve,
        _number(_mapping(result.get("test")).get("examples")),
        _number(_mapping(result.get("validation")).get("examples")),
        _number(result.get("diverged_at_step")),
        {split: _chance(found) for split, found in _mapping(result.get("chance")).items()},
        _mapping(result.get("runtime")),
        {
            split: {
                name: float(value)
                for name, value in _mapping(found).items()
                if _number(value) is not None
            }
            for split, found in _mapping(result.get("measures")).items()
        },
        {
            moment: {layer: _mapping(values) for layer, values in _mapping(found).items()}
            for moment, found in _mapping(result.get("signals")).items()
        },
    )


def _metrics(result: Any) -> dict[str, Any]:
    """The columns of METRICS from a result. Raises ValueError where it makes no sense."""
    if not isinstance(result, dict):
        raise ValueError("is not a table")
    if result.get("status") not in STATUSES:
        raise ValueError(f"status {result.get('status')!r} is not one of {', '.join(STATUSES)}")
    metrics: dict[str, Any] = {name: _number(result.get(name)) for name in METRICS}
    for split in ("validation", "test"):
        for field in ("accuracy", "loss"):
            metrics[f"{split}_{field}"] = _number(_mapping(result.get(split)).get(field))
    for field in ("accuracy", "step"):
        best = _mapping(result.get("best_validation"))
        metrics[f"best_validation_{field}"] = _number(best.get(field))
    metrics["params_digest"] = result.get("params_digest") or None
    if result["status"] == "finished":
        if metrics["test_accuracy"] is None and metrics["validation_accuracy"] is None:
            raise ValueError("finished, but without an accuracy")
        for name in ("test_accuracy", "validation_accuracy"):
            if not 0 <= (metrics[name] or 0) <= 1:
                raise ValueError(f"{name} {metrics[name]} is not a fraction 0..1")
    return metrics


def _chance(found: Any) -> dict[str, float]:
    """Accuracy and loss of a constant prediction; older results have the accuracy alone."""
    known = _mapping(found) or {"accuracy": found}
    limits = {"accuracy": 1.0, "loss": math.inf}
    numbers = {name: _number(known.get(name)) for name in limits}
    return {
        name: float(number)
        for name, number in numbers.items()
        if number is not None and 0 <= number <= limits[name]
    }


def _curve(path: Path) -> tuple[tuple[int, float, float], ...]:
    """(step, epoch, validation accuracy) by step; lines that cannot be read are passed over."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    points = {}
    for line in lines:
        try:
            entry = _mapping(json.loads(line))
        except (ValueError, RecursionError):
            continue
        step, epoch, accuracy = (_number(entry.get(key)) for key in ("step", "epoch", "accuracy"))
        if entry.get("split") == "validation" and None not in (step, epoch, accuracy):
            points[int(step)] = (int(step), float(epoch), float(accuracy))
    return tuple(points[step] for step in sorted(points))


def _config(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(_read(path))
    except (OSError, ValueError):
        return {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(value: Any) -> Any:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
