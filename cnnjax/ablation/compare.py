"""The runs of a study as arms set against the baseline of their block."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from cnnjax.ablation import statistics
from cnnjax.ablation.results import Arm, Study, lookup, plain


@dataclass(frozen=True)
class ArmResult:
    """An arm, its metric by seed, and its paired difference to the baseline (None for that)."""

    arm: Arm
    values: Mapping[int, float]
    sample: statistics.Sample | None
    versus: statistics.Paired | None


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
    """The arms of one architecture and data set, baseline first; `grid` where two factors cross."""

    name: str
    arms: tuple[ArmResult, ...]
    grid: Grid | None

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that the others are set against."""
        return self.arms[0] if self.arms and self.arms[0].arm.baseline else None


def blocks(study: Study) -> list[Block]:
    """Every block of the study; differences are taken within blocks only."""
    return [
        _block(name, arms, study.metric, study.factors) for name, arms in study.blocks().items()
    ]


def _block(name: str, arms: tuple[Arm, ...], metric: str, factors: tuple[str, ...]) -> Block:
    reference = arms[0].values(metric) if arms[0].baseline else {}
    results = []
    for arm in arms:
        values = arm.values(metric)
        versus = None if arm.baseline else statistics.compare(values, reference)
        results.append(ArmResult(arm, values, statistics.describe(list(values.values())), versus))
    return Block(name, tuple(results), _grid(results, factors))


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
