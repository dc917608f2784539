"""The section of a block that shows what its arms get right and wrong."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax import metric, paths
from cnnjax.ablation.blocks import Block
from cnnjax.ablation.results import Arm, Run, Study, lookup
from cnnjax.errors import UserError
from cnnjax.report import confusion, examples, formatting
from cnnjax.report.canvas import Drawing
from cnnjax.report.document import Element, Figure, Paragraph, Section

TITLE = "What the arms get right and wrong"
_PAIRS = 3


def section(block: Block, index: int, study: Study) -> Section | None:
    """The section of a block, the `index`-th of the study; None where no run kept examples of the
    study's split, as in workdirs of older versions."""
    if not any(_kept(result.arm, "examples", study) for result in block.arms):
        return None
    elements: list[Element] = []
    names: dict[str, tuple[str, ...]] = {}
    for number, result in enumerate(block.arms):
        prefix = f"block-{index + 1}-arm-{number + 1}"
        shown = _examples(result.arm, prefix, study, names)
        text, matrix = _confusion(result.arm, prefix, study, names)
        if text or shown or matrix:
            elements += [Paragraph(text, f"{result.arm.label}."), *shown, *matrix]
    title = f"{TITLE}: {block.name}" if block.name else TITLE
    return Section(title, tuple(elements), level=3, collapsed=True)


def _task(arm: Arm) -> str:
    return str(lookup(arm.config, "task") or "classification")


def _kept(arm: Arm, kind: str, study: Study) -> list[tuple[Run, Path]]:
    """The finished runs of an arm that kept examples or predictions, each with its file."""
    name = f"{kind}_{study.split}.npz"
    finished = [run for run in arm.runs if run.status == "finished"]
    named = [(run, study.workdir / run.path / name) for run in finished]
    return [(run, path) for run, path in named if os.path.lexists(path)]


def _examples(
    arm: Arm, prefix: str, study: Study, names: dict[str, tuple[str, ...]]
) -> list[Element]:
    """The examples of the first finished run that kept some, except images of a folder in a study
    that is published. Adds the names of the classes to `names`, by task."""
    task = _task(arm)
    runs = _kept(arm, "examples", study)
    if not runs:
        return []
    run, path = runs[0]
    try:
        kept = examples.read(path, task)
    except UserError as error:
        return [_left_out(error, study)]
    names[task] = kept.mask_names if task in metric.PER_PIXEL else kept.class_names
    if study.published and str(lookup(arm.config, "data.name")).startswith(paths.FOLDER):
        return []
    of = next((each.title for each in study.metrics if each.name in kept.metrics), "value")
    mistakes = "mistake" in kept.kinds
    text = (
        f"Seed {run.seed}: examples of the {study.split} split with the best, the median and the "
        f"worst {of}; equal ones are ordered by the next metric."
        f"{' Below, the mistakes that the network was surest of.' * mistakes}"
    )
    drawing = Drawing(examples.draw(kept, task, study.metrics))
    alt = f"Images of {arm.label}, seed {run.seed}: best, median and worst beside truth."
    return [Figure(f"{prefix}-examples", drawing, alt, text, wide=True)]


def _left_out(error: UserError, study: Study) -> Paragraph:
    text = str(error).removeprefix(f"{study.workdir}{os.sep}")
    return Paragraph(text, "A picture is left out.", "warning")


def _confusion(
    arm: Arm, prefix: str, study: Study, names: dict[str, tuple[str, ...]]
) -> tuple[str, list[Element]]:
    """The most confused pairs of an arm in a sentence, and its confusion matrix where there are not
    too many classes, summed over its seeds."""
    task = _task(arm)
    if task not in metric.TASKS:
        return "", []
    pixels = task in metric.PER_PIXEL
    count = confusion.of_masks if pixels else confusion.of_labels
    matrices: list[np.ndarray] = []
    elements: list[Element] = []
    for _, path in _kept(arm, "predictions", study):
        try:
            matrix = count(path)
        except UserError as error:
            elements.append(_left_out(error, study))
            continue
        if not matrices or matrix.shape == matrices[0].shape:
            matrices.append(matrix)
    if not matrices:
        return "", elements
    known = names.get(task, ())
    total = np.sum(matrices, axis=0)
    if pixels:
        used = np.flatnonzero(total.any(axis=0) | total.any(axis=1))
        size = max(len(known), *(used + 1).tolist(), 1)
        total = total[:size, :size]
    labels = [known[i] if i < len(known) else str(i) for i in range(len(total))]
    text = _pairs(total, labels, "pixel" if pixels else "image")
    if len(total) > confusion.MOST_CLASSES:
        return text, elements
    drawing = Drawing(confusion.draw(total, labels))
    caption = (
        f"{formatting.count(len(matrices), 'seed').capitalize()}, {study.split} split: percent of "
        "each true class (row) by predicted class (column)."
    )
    alt = f"Confusion matrix of {arm.label}. {text}"
    return text, [*elements, Figure(f"{prefix}-confusion", drawing, alt, caption)]


def _pairs(matrix: np.ndarray, names: Sequence[str], unit: str) -> str:
    """The most confused pairs in a sentence."""
    parts = []
    for true, predicted in confusion.most_confused(matrix, _PAIRS):
        wrong, whole = int(matrix[true, predicted]), int(matrix[true].sum())
        share = f"{wrong / whole:.1%} of {whole:,} {unit}{'s' * (whole > 1)}"
        parts.append(f"{names[true]} taken for {names[predicted]} ({share})")
    return f"Most confused: {'; '.join(parts)}." if parts else "Nothing is confused."
