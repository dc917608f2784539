"""What probes measured layer by layer: the order of the layers, and the numbers as a table."""

from typing import Any

from cnnjax.ablation.results import Arm, Run, Study, csv_text

MOMENTS = ("start", "end")


def layers(run: Run, name: str = "") -> list[str]:
    """The layers of a run's network from its first to its last: those that have a number called
    `name`, or any number. Every network has an order of its own.

    A run's probes are kept one after the other, each in the order of the network; what is inside an
    endpoint (`conv1/conv` of `conv1`) stands beside it, whichever probe named it first.
    """
    found = list(dict.fromkeys(layer for own in run.signals.values() for layer in own))
    places = {layer: place for place, layer in enumerate(found)}

    def order(layer: str) -> tuple[int, int]:
        return places.get(layer.partition("/")[0], places[layer]), places[layer]

    return [
        layer
        for layer in sorted(found, key=order)
        if not name or any(name in own.get(layer, {}) for own in run.signals.values())
    ]


def network(arm: Arm, name: str) -> list[str]:
    """The layers of an arm's network that have a number called `name`: all its runs are of one
    network, of which some may have been stopped before the end."""
    return max((layers(run, name) for run in arm.runs), key=len, default=[])


def to_csv(study: Study) -> str:
    """Every number of every layer of every run as CSV text, to six digits, a row for each moment
    and layer; `position` counts the layers of the run's network from 1."""
    rows: list[dict[str, Any]] = []
    for run in study.runs:
        order = layers(run)
        for moment in MOMENTS:
            numbers = run.signals.get(moment, {})
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
