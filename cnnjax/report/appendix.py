"""The last sections of a report: context, arms, runs without a figure, cost, reproduction."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnjax.ablation import design
from cnnjax.ablation.blocks import Block
from cnnjax.ablation.results import Arm, Run, Study, as_text, lookup
from cnnjax.report import formatting
from cnnjax.report.document import Code, Definitions, Element, Paragraph, Section, Table

_CONTEXT = {
    "lecture": "The lecture says",
    "published": "Published",
    "expected": "Expected",
    "notes": "Notes",
}
_WITHOUT_FIGURES = ("diverged", "failed", "unreadable", "unfinished", "missing")


def sections(study: Study, blocks: list[Block]) -> list[Section]:
    """Context, arms, runs without a figure, cost, and how to reproduce the study."""
    sections = [*_context(study), _arms(study), *_runs_without_figures(study)]
    return [*sections, *_cost(blocks), _reproduce(study)]


def _context(study: Study) -> Iterator[Section]:
    pairs = tuple(
        (term, str(study.experiment[key]))
        for key, term in _CONTEXT.items()
        if study.experiment.get(key)
    )
    if pairs:
        yield Section("What was known and expected", (Definitions(pairs),))


def _arms(study: Study) -> Section:
    rows = tuple((arm.name, "yes" if arm.baseline else "", _overrides(arm)) for arm in study.arms)
    caption = "What each arm changes in the base configuration of the experiment."
    elements: list[Element] = [Table(caption, ("Arm", "Baseline", "Overrides"), rows, labels=3)]
    for block, arms in study.blocks().items():
        levels = [{path: lookup(arm.config, path) for path in study.factors} for arm in arms]
        if text := design.describe(levels):
            elements.append(Paragraph(text, f"{block}:" if block else "Design:"))
    if any(_norm_after_on_residual(arm) for arm in study.arms):
        text = (
            "conv, activation, norm for inner convolutions; the last norm stays before the "
            "addition."
        )
        lead = "Order in residual networks with model.norm.placement = after:"
        elements.append(Paragraph(text, lead))
    return Section("Arms", tuple(elements))


def _overrides(arm: Arm) -> str:
    changes = [f"{path} = {as_text(value) or 'none'}" for path, value in arm.overrides.items()]
    return "; ".join(changes) or "none: the base itself"


def _norm_after_on_residual(arm: Arm) -> bool:
    return (
        str(lookup(arm.config, "model.name")).startswith("resnet")
        and lookup(arm.config, "model.norm.placement") == "after"
        and lookup(arm.config, "model.norm.kind") != "none"
    )


def _runs_without_figures(study: Study) -> Iterator[Section]:
    runs = [run for status in _WITHOUT_FIGURES for run in study.runs if run.status == status]
    if runs:
        rows = tuple((run.path, run.status, _reason(run)) for run in runs)
        caption = "Runs that are part of the study and have no figure in the tables above."
        table = Table(caption, ("Run", "Status", "What happened"), rows, labels=3)
        yield Section("Runs without a figure", (table,))


def _reason(run: Run) -> str:
    if run.status == "diverged":
        step = run.result.diverged_at_step
        where = "" if step is None else f" at step {step}"
        return f"the loss was not finite{where}" + (f": {run.error}" if run.error else "")
    reasons = {"unfinished": "started, without a result so far", "missing": "not run yet"}
    return reasons.get(run.status) or run.error or "no error was recorded"


def _cost(blocks: list[Block]) -> Iterator[Section]:
    arms = [arm.arm for block in blocks for arm in block.arms]
    seconds = [run.result.seconds or 0.0 for arm in arms for run in arm.runs]
    if not any(seconds):
        return
    rows = tuple(
        (
            arm.name if len(blocks) > 1 else arm.label,
            _figure(arm, "parameters", "{:,.0f}"),
            _figure(arm, "steps", "{:,.0f}"),
            _figure(arm, "seconds", "{:,.1f}"),
            _figure(arm, "train_images_per_second", "{:,.0f}"),
            f"{_compilations([arm]):,}",
        )
        for arm in arms
    )
    head = ("Arm", "Parameters", "Steps", "Seconds a run", "Images/s", "Compilations")
    caption = (
        "Medians over the runs of each arm; images/s counts training steps after the first. "
        "Compilations are added up: arms that differ in numbers alone share a program with the arm "
        "that came first."
    )
    if any(run.runtime.get("replicas") == "together" for arm in arms for run in arm.runs):
        caption += " Runs that were trained together share their time equally."
    total, compiled = formatting.duration(sum(seconds)), _compilations(arms)
    text = (
        f"All runs together took {total}, added up run by run, with "
        f"{formatting.count(compiled, 'compilation')} of a training step."
    )
    yield Section("Cost", (Paragraph(text), Table(caption, head, rows)))


def _compilations(arms: Sequence[Arm]) -> int:
    return sum(run.result.compilations or 0 for arm in arms for run in arm.runs)


def _figure(arm: Arm, field: str, form: str) -> str:
    values = [value for run in arm.runs if (value := getattr(run.result, field)) is not None]
    return form.format(statistics.median(values)) if values else formatting.NONE


def _reproduce(study: Study) -> Section:
    about = study.about
    seeds = sorted({run.seed for run in study.runs})
    extensions = about["extensions"]
    commands = [part["command"] for part in extensions if part["command"]]
    commands = list(dict.fromkeys(commands)) or [about["command"] or "not recorded"]
    if first := study.experiment.get("prerequisite"):
        commands.insert(0, str(first))
    pairs = [("Seeds", ", ".join(map(str, seeds)) or "none")]
    pairs += [("Changed by --set", "; ".join(about["set"]))] if about["set"] else []
    pairs += [_extension(part) for part in extensions]
    for data in about.get("data", []):
        fields = {name: value for name, value in data.items() if name != "name" and value}
        pairs.append((f"Data: {as_text(data.get('name'))}", _as_lines(fields)))
    if about["machine"]:
        pairs.append(("Machine", _as_lines(about["machine"])))
    return Section("To reproduce", (Code("\n".join(commands)), Definitions(tuple(pairs))))


def _extension(part: Mapping[str, Any]) -> tuple[str, str]:
    """The date of a call of the sweep, and its arms, seeds and versions as text."""
    lines = []
    if part["arms"]:
        lines.append("arms: " + ", ".join(part["arms"]))
    if part["seeds"]:
        lines.append("seeds: " + ", ".join(map(str, part["seeds"])))
    if part["versions"]:
        lines.append("versions: " + _as_lines(part["versions"], " ", ", "))
    if git := part["git"]:
        dirty = " with uncommitted changes" if git.get("dirty") else ""
        lines.append(f"git revision: {git.get('revision') or 'none'}{dirty}")
    return part["date"] or "Extension", "\n".join(lines)


def _as_lines(values: Mapping[str, Any], link: str = ": ", between: str = "\n") -> str:
    return between.join(f"{name}{link}{as_text(value)}" for name, value in values.items())
