"""The runs of a study as arms set against the baseline of their block."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from cnnjax.ablation import evidence, statistics
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.population import Population
from cnnjax.ablation.results import Arm, Study, lookup, plain
from cnnjax.ablation.sides import Sides
from cnnjax.metric import PERCENT, Metric

IMPROVING = 0.005


@dataclass(frozen=True)
class ArmResult:
    """An arm set against the baseline of its block.

    Attributes:
      arm: the arm.
      values: its primary metric by seed; diverged runs score chance.
      sample: their mean and its own 95% interval.
      versus: the paired difference to the baseline; the intervals of all arms of the block hold
        together with 95%. None for the baseline.
      finished: the same over the pairs of finished runs, where those are fewer.
      population: the difference for other images too, where outcomes were kept.
      at_chance: how many finished runs are no better than guessing the most frequent class.
      improving: whether it was still getting better at the end of training.
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
    """Two fully crossed factors and the figures of each cell (row index, column index)."""

    row_factor: str
    column_factor: str
    row_levels: tuple[str, ...]
    column_levels: tuple[str, ...]
    cells: Mapping[tuple[int, int], statistics.Sample | None]

    def mean(self, row: int, column: int) -> float | None:
        """The mean of a cell, or None where nothing has finished."""
        cell = self.cells.get((row, column))
        return None if cell is None else cell.mean


@dataclass(frozen=True)
class Block:
    """The arms of one architecture and data set, baseline first; `grid` where two factors cross;
    `without_predictions` are the finished runs whose predictions cannot be read."""

    name: str
    arms: tuple[ArmResult, ...]
    grid: Grid | None
    without_predictions: tuple[str, ...] = ()

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that the others are set against."""
        return self.arms[0] if self.arms and self.arms[0].arm.baseline else None


def blocks(study: Study) -> list[Block]:
    """Every block of the study; differences are taken within blocks only."""
    outcomes = Outcomes(study.workdir, study.split, study.primary)
    return [_block(name, arms, study, outcomes) for name, arms in study.blocks().items()]


def _block(name: str, arms: tuple[Arm, ...], study: Study, outcomes: Outcomes) -> Block:
    reference = arms[0] if arms[0].baseline else None
    family = max(1, len(arms) - 1)
    results = [_result(arm, reference, study, outcomes, family) for arm in arms]
    finished = [run for arm in arms for run in arm.runs if run.status == "finished"]
    lost = tuple(run.place for run in finished if outcomes.of(run) is None)
    return Block(name, tuple(results), _grid(results, study.factors), lost)


def _result(
    arm: Arm, reference: Arm | None, study: Study, outcomes: Outcomes, family: int
) -> ArmResult:
    primary, split = study.primary, study.split
    values = arm.scores(primary, split)
    at_chance = sum(
        run.status == "finished" and bool(evidence.at_chance(run, primary, split))
        for run in arm.runs
    )
    sample = statistics.describe(list(values.values()), primary.ends)
    rising = improving(arm, primary)
    if reference is None or arm.baseline:
        return ArmResult(arm, values, sample, None, None, None, at_chance, rising)
    sides = Sides((arm.label, reference.label), ([arm], [reference]), outcomes, split, primary)
    found = sides.compare(0, 1, family=family)
    return ArmResult(
        arm,
        values,
        sample,
        found.paired,
        found.finished,
        found.population,
        at_chance,
        rising,
    )


def improving(arm: Arm, primary: Metric) -> bool:
    """Whether the primary metric on the validation split still got better in the last quarter of
    training, in the mean over the finished runs: by half a point or more, or by 0.5 % of what it
    was where it is no percentage."""
    gains = []
    for run in arm.runs:
        if run.status != "finished" or len(run.curve) < 3:
            continue
        end = run.curve[-1][0]
        earlier = [value for step, _, value in run.curve if step <= 0.75 * end]
        if earlier:
            whole = 1.0 if primary.unit == PERCENT else abs(earlier[-1]) or 1.0
            gains.append(primary.sign * (run.curve[-1][2] - earlier[-1]) / whole)
    return bool(gains) and sum(gains) / len(gains) >= IMPROVING


def _grid(results: list[ArmResult], factors: tuple[str, ...]) -> Grid | None:
    """The grid, where exactly two factors vary in the block and every pair of levels is one arm."""
    levels = {
        factor: tuple(dict.fromkeys(plain(lookup(r.arm.config, factor)) for r in results))
        for factor in factors
    }
    varied = [factor for factor in factors if len(levels[factor]) > 1]
    if len(varied) != 2:
        return None
    rows, columns = sorted(varied, key=lambda factor: len(levels[factor]))
    places = [
        tuple(levels[f].index(plain(lookup(r.arm.config, f))) for f in (rows, columns))
        for r in results
    ]
    product = itertools.product(range(len(levels[rows])), range(len(levels[columns])))
    if sorted(places) != sorted(product):
        return None
    cells = {(row, column): r.sample for (row, column), r in zip(places, results, strict=True)}
    return Grid(rows, columns, levels[rows], levels[columns], cells)
