"""The arms of each block compared with the baseline of the block."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from cnnjax.ablation import evidence, statistics
from cnnjax.ablation.example_values import ExampleValues
from cnnjax.ablation.population import Population
from cnnjax.ablation.results import Arm, Study, as_text, lookup
from cnnjax.ablation.sides import Sides
from cnnjax.metric import PERCENT, Metric

IMPROVING = 0.005
"""The gain in the last quarter of training from which an arm counts as still improving."""


@dataclass(frozen=True)
class ArmResult:
    """An arm compared with the baseline of its block.

    Attributes:
      arm: the arm.
      values: the primary metric by seed; diverged runs score chance.
      sample: their mean with a 95% interval.
      versus: the paired difference to the baseline; the intervals of all arms of the block hold
        simultaneously with 95%. None for the baseline.
      finished: the same over the pairs of finished runs, if those are fewer.
      population: the difference for other images too, if values of examples were kept.
      at_chance: the number of finished runs no better than the best constant prediction.
      improving: whether the arm was still improving at the end of training.
    """

    arm: Arm
    values: Mapping[int, float]
    sample: statistics.Sample | None
    versus: statistics.Paired | None
    finished: statistics.Paired | None
    population: Population | None
    at_chance: int
    improving: bool


@dataclass(frozen=True)
class Grid:
    """Two fully crossed factors and the sample of each cell (row index, column index)."""

    row_factor: str
    column_factor: str
    row_levels: tuple[str, ...]
    column_levels: tuple[str, ...]
    cells: Mapping[tuple[int, int], statistics.Sample | None]

    def mean(self, row: int, column: int) -> float | None:
        """The mean of a cell; None if no run has finished."""
        cell = self.cells.get((row, column))
        return None if cell is None else cell.mean


@dataclass(frozen=True)
class Block:
    """The arms of one architecture and data set, baseline first; `grid` if two factors are crossed;
    `without_predictions` are the finished runs whose predictions cannot be read."""

    name: str
    arms: tuple[ArmResult, ...]
    grid: Grid | None
    without_predictions: tuple[str, ...] = ()

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that the others are compared with."""
        return self.arms[0] if self.arms and self.arms[0].arm.baseline else None


def compare(study: Study) -> list[Block]:
    """Compares the arms of every block with its baseline; never arms of different blocks."""
    values = ExampleValues(study, study.primary)
    return [_block(name, arms, study, values) for name, arms in study.blocks().items()]


def _block(name: str, arms: tuple[Arm, ...], study: Study, values: ExampleValues) -> Block:
    baseline = arms[0] if arms[0].baseline else None
    family = max(1, len(arms) - 1)
    results = [_compare(arm, baseline, study, values, family) for arm in arms]
    return Block(name, tuple(results), _grid(results, study.factors), values.missing(arms))


def _compare(
    arm: Arm, baseline: Arm | None, study: Study, example_values: ExampleValues, family: int
) -> ArmResult:
    primary, split = study.primary, study.split
    values = arm.scores(primary, split)
    at_chance = sum(
        run.status == "finished" and bool(evidence.at_chance(run, primary, split))
        for run in arm.runs
    )
    versus = None
    if baseline is not None and not arm.baseline:
        names, arms = (arm.label, baseline.label), ([arm], [baseline])
        versus = Sides(names, arms, example_values, split, primary).compare(0, 1, family=family)
    return ArmResult(
        arm,
        values,
        statistics.describe(list(values.values()), primary.ends),
        versus.paired if versus else None,
        versus.finished if versus else None,
        versus.population if versus else None,
        at_chance,
        improving(arm, primary),
    )


def improving(arm: Arm, primary: Metric) -> bool:
    """Whether the primary metric on the validation split still improved in the last quarter of
    training, in the mean over the finished runs: by half a point or more, or, if it is no
    percentage, by 0.5 % of its value."""
    gains = []
    for run in arm.runs:
        if run.status != "finished" or len(run.curve) < 3:
            continue
        end = run.curve[-1][0]
        earlier = [value for step, _, value in run.curve if step <= 0.75 * end]
        if earlier:
            scale = 1.0 if primary.unit == PERCENT else abs(earlier[-1]) or 1.0
            gains.append(primary.sign * (run.curve[-1][2] - earlier[-1]) / scale)
    return bool(gains) and sum(gains) / len(gains) >= IMPROVING


def _grid(results: list[ArmResult], factors: tuple[str, ...]) -> Grid | None:
    """The grid, if exactly two factors vary in the block and every pair of levels is one arm."""
    values = {f: [as_text(lookup(r.arm.config, f)) for r in results] for f in factors}
    levels = {f: tuple(dict.fromkeys(values[f])) for f in factors}
    varied = [f for f in factors if len(levels[f]) > 1]
    if len(varied) != 2:
        return None
    rows, columns = sorted(varied, key=lambda f: len(levels[f]))
    pairs = zip(values[rows], values[columns], strict=True)
    positions = [(levels[rows].index(row), levels[columns].index(column)) for row, column in pairs]
    product = itertools.product(range(len(levels[rows])), range(len(levels[columns])))
    if sorted(positions) != list(product):
        return None
    cells = dict(zip(positions, (r.sample for r in results), strict=True))
    return Grid(rows, columns, levels[rows], levels[columns], cells)
