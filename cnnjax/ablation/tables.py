"""results.csv and signals.csv: the figures of every run, and of every layer, as CSV text."""

import csv
import io
from collections.abc import Collection, Mapping
from typing import Any

from cnnjax.ablation.results import NO_RESULT, Study, as_text, lookup
from cnnjax.result import MOMENTS, SPLITS, RunResult

_RUN = ("arm", "block", "seed", "status")
COLUMNS = (
    "steps",
    "examples_seen",
    "seconds",
    "train_images_per_second",
    "compilations",
    "parameters",
    "multiply_adds",
    "params_digest",
    "error",
)
"""The fields of a result that are columns of results.csv, after those of the metrics."""


def results_csv(study: Study) -> str:
    """`rows` as CSV text with a header; an absent value is an empty field."""
    return csv_text((*_RUN, *study.factors, *_figures(NO_RESULT, study)), rows(study))


def rows(study: Study) -> list[dict[str, Any]]:
    """One row for each run that has a result: arm, block, seed, status, factors, metrics. Those of
    the test split are left out if the study shows the validation split."""
    table = []
    for run in study.runs:
        if run.status in ("missing", "unfinished"):
            continue
        row = {name: getattr(run, name) for name in _RUN}
        row |= {path: lookup(run.config, path) for path in study.factors}
        row |= _figures(run.result, study)
        row |= {
            f"{split}_{name}": value
            for split, measures in run.result.measures.items()
            for name, value in measures.items()
            if split in ("validation", study.split)
        }
        table.append(row | {"error": run.error})
    return table


def _figures(result: RunResult, study: Study) -> dict[str, Any]:
    """The columns of results.csv that are read off a result. Those of the test split are left out
    if the study shows the validation split."""
    figures: dict[str, Any] = {
        f"{split}_{metric.name}": result.figures(split).get(metric.name)
        for split in (SPLITS if study.split == "test" else SPLITS[:1])
        for metric in study.metrics
    }
    primary, best = study.primary.name, result.best_validation
    figures[f"best_validation_{primary}"] = best and best.get(primary)
    figures["best_validation_step"] = best and best.step
    return figures | {name: getattr(result, name) for name in COLUMNS}


def signals_csv(study: Study) -> str:
    """The signals of every layer of every run as CSV text, to six digits, one row for each moment
    and layer; `position` counts the layers of the run's network from 1."""
    table: list[dict[str, Any]] = []
    for run in study.runs:
        layers = run.result.layers()
        for moment in MOMENTS:
            signals = run.result.signals.get(moment, {})
            table += [
                {
                    **{name: _six_digits(value) for name, value in signals[layer].items()},
                    "arm": run.arm,
                    "block": run.block,
                    "seed": run.seed,
                    "moment": moment,
                    "layer": layer,
                    "position": position,
                }
                for position, layer in enumerate(layers, 1)
                if layer in signals
            ]
    return csv_text(("arm", "block", "seed", "moment", "layer", "position"), table)


def _six_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def csv_text(first: Collection[str], table: Collection[Mapping[str, Any]]) -> str:
    """Rows as CSV text with a header: the `first` columns, and those that only rows have. Text that
    a spreadsheet would take for a formula is prefixed with an apostrophe, as spreadsheets do
    themselves; numbers stay numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = dict.fromkeys([*first, *(name for row in table for name in row)])
    writer.writerow(map(_escape_formula, names))
    for row in table:
        values = (row.get(name) for name in names)
        writer.writerow(_escape_formula(v) if isinstance(v, str) else as_text(v) for v in values)
    return text.getvalue()


def _escape_formula(text: str) -> str:
    text = "\n".join(text.splitlines()) if "\r" in text else text  # a lone \r would end the row
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
