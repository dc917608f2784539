"""The parts of a report that say where its figures come from: context, arms, cost, provenance."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.ablation import design
from cnnjax.ablation.blocks import Block
from cnnjax.ablation.results import Arm, Run, Study, as_text, lookup
from cnnjax.report import words
from cnnjax.report.document import Code, Definitions, Element, Paragraph, Section, Table

_CONTEXT = {
    "lecture": "The lecture says",
    "published": "Published",
    "expected": "Expected",
    "notes": "Notes",
}
_TROUBLE = ("diverged", "failed", "unreadable", "unfinished", "missing")


def sections(study: Study, blocks: list[Block]) -> list[Section]:
    """Context, arms, runs without a figure, cost, and how to reproduce the study."""
    made = [
        _context(study),
        _arms(study),
        _trouble(study),
        _cost(blocks, named=len(blocks) > 1),
        _reproduce(study),
    ]
    return [section for section in made if section is not None]


def _context(study: Study) -> Section | None:
    pairs = tuple(
        (term, str(study.experiment[key]))
        for key, term in _CONTEXT.items()
        if study.experiment.get(key)
    )
    return Section("What was known and expected", (Definitions(pairs),)) if pairs else None


def _arms(study: Study) -> Section:
    rows = tuple((arm.name, "yes" if arm.baseline else "", _overrides(arm)) for arm in study.arms)
    caption = "What each arm changes in the base configuration of the experiment."
    elements: list[Element] = [Table(caption, ("Arm", "Baseline", "Overrides"), rows, labels=3)]
    for block, arms in study.blocks().items():
        levels = [{path: lookup(arm.config, path) for path in study.factors} for arm in arms]
        said = design.describe(levels)
        if said:
            elements.append(Paragraph(said, f"{block}:" if block else "Design:"))
    if any(_norm_after_on_residual(arm) for arm in study.arms):
        elements.append(
            Paragraph(
                "conv, activation, norm for inner convolutions; the last norm stays before the "
                "addition.",
                "Order in residual networks with model.norm.placement = after:",
            )
        )
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


def _trouble(study: Study) -> Section | None:
    runs = [run for status in _TROUBLE for run in study.runs if run.status == status]
    if not runs:
        return None
    rows = tuple((run.path, run.status, _reason(run)) for run in runs)
    table = Table(
        "Runs that are part of the study and have no figure in the tables above.",
        ("Run", "Status", "What happened"),
        rows,
        labels=3,
    )
    return Section("Runs without a figure", (table,))


def _reason(run: Run) -> str:
    if run.status == "diverged":
        step = run.result.diverged_at_step
        at = "" if step is None else f" at step {step}"
        return f"the loss was not finite{at}" + (f": {run.error}" if run.error else "")
    if run.status == "unfinished":
        return "started, without a result so far"
    if run.status == "missing":
        return "not run yet"
    return run.error or "no error was recorded"


def _cost(blocks: list[Block], named: bool) -> Section | None:
    arms = [arm.arm for block in blocks for arm in block.arms]
    seconds = [run.result.seconds or 0.0 for arm in arms for run in arm.runs]
    if not any(seconds):
        return None
    rows = tuple(
        (
            arm.name if named else arm.label,
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
    total, compiled = words.duration(sum(seconds)), _compilations(arms)
    text = (
        f"All runs together took {total}, added up run by run, with "
        f"{words.count(compiled, 'compilation')} of a training step."
    )
    return Section("Cost", (Paragraph(text), Table(caption, head, rows)))


def _compilations(arms: Sequence[Arm]) -> int:
    return sum(run.result.compilations or 0 for arm in arms for run in arm.runs)


def _figure(arm: Arm, field: str, form: str) -> str:
    values = [value for run in arm.runs if (value := getattr(run.result, field)) is not None]
    return form.format(statistics.median(values)) if values else words.NONE


def _reproduce(study: Study) -> Section:
    about = study.about
    seeds = sorted({run.seed for run in study.runs})
    extensions = about["extensions"]
    commands = [part["command"] for part in extensions if part["command"]]
    commands = list(dict.fromkeys(commands)) or [about["command"] or "not recorded"]
    pairs = [("Seeds", ", ".join(map(str, seeds)) or "none")]
    pairs += [("Changed by --set", "; ".join(about["set"]))] if about["set"] else []
    pairs += [_extension(part) for part in extensions]
    pairs += [(f"Data: {name}", text) for name, text in _data(about.get("data", []))]
    if about["machine"]:
        pairs.append(("Machine", _described(about["machine"])))
    return Section("To reproduce", (Code("\n".join(commands)), Definitions(tuple(pairs))))


def _data(fingerprints: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The name of each data set, and what it was when it was read."""
    told = []
    for data in fingerprints:
        fields = {name: value for name, value in data.items() if name != "name" and value}
        told.append((as_text(data.get("name")), _described(fields)))
    return told


def _extension(part: Mapping[str, Any]) -> tuple[str, str]:
    """What one call of the sweep added, and with which versions."""
    lines = []
    if part["arms"]:
        lines.append("arms: " + ", ".join(part["arms"]))
    if part["seeds"]:
        lines.append("seeds: " + ", ".join(map(str, part["seeds"])))
    if part["versions"]:
        lines.append("versions: " + _described(part["versions"], " ", ", "))
    if git := part["git"]:
        dirty = " with uncommitted changes" if git.get("dirty") else ""
        lines.append(f"git revision: {git.get('revision') or 'none'}{dirty}")
    return part["date"] or "Extension", "\n".join(lines)


def _described(values: Mapping[str, Any], link: str = ": ", between: str = "\n") -> str:
    return between.join(f"{name}{link}{as_text(value)}" for name, value in values.items())
