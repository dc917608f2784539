"""What probes measured layer by layer, as a table."""

from typing import Any

from cnnjax.ablation.results import Arm, Study, csv_text
from cnnjax.result import MOMENTS


def network(arm: Arm, name: str) -> list[str]:
    """The layers of an arm's network that have a number called `name`: all its runs are of one
    network, of which some may have been stopped before the end."""
    return max((run.result.layers(name) for run in arm.runs), key=len, default=[])


def to_csv(study: Study) -> str:
    """Every number of every layer of every run as CSV text, to six digits, a row for each moment
    and layer; `position` counts the layers of the run's network from 1."""
    rows: list[dict[str, Any]] = []
    for run in study.runs:
        order = run.result.layers()
        for moment in MOMENTS:
            numbers = run.result.signals.get(moment, {})
            rows += [
                {
                    **{name: _short(value) for name, value in numbers[layer].items()},
                    "arm": run.arm,
                    "block": run.block,
                    "seed": run.seed,
                    "moment": moment,
                    "layer": layer,
                    "position": position,
                }
                for position, layer in enumerate(order, 1)
                if layer in numbers
            ]
    about = ("arm", "block", "seed", "moment", "layer", "position")
    return csv_text(dict.fromkeys([*about, *(name for row in rows for name in row)]), rows)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
