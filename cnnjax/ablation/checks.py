"""Validation of experiments before anything is run; what does not make sense raises UserError.

The argument `where` is the place in the experiment with which messages begin.
"""

import json
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax import catalog, metric
from cnnjax.ablation.claims import (
    OF_RUNS,
    Claim,
    arms_of,
    block_of,
    blocks_of,
    problem,
    unbalanced_factors,
)
from cnnjax.errors import UserError, unknown
from cnnjax.metric import Metric

REPORT = (
    "report.html",
    "report.md",
    "results.csv",
    "signals.csv",
    "tables.tex",
    "figures",
    "final",
)
"""What a report consists of."""
_RESERVED = (*REPORT, "study", "logs", "study.json", "tuning")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,199}")
SEEDS = 10**9  # all seeds are smaller
MOST_SEEDS = 10_000  # of one study
MOST_VALUES = 10_000  # claims, and values of a field that is tuned


def name(value: object) -> None:
    """Checks the name of an experiment, which is that of a folder once it is published."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UserError(
            f"experiment {value!r}: name: allowed are up to 200 letters, digits and _ . = + - "
            "(published, the name becomes a folder)."
        )


def distinct(where: str, arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that no two arms of a block have the same settings (all that the experiment sets), or
    would share a folder."""
    by_settings: dict[tuple[str, str], str] = {}
    folders: dict[str, str] = {}
    for arm, settings in arms.items():
        key = block_of(arm), json.dumps(settings, sort_keys=True)
        other = by_settings.setdefault(key, arm)
        if other != arm:
            raise UserError(f"{where}: arm {arm!r}: is the same as arm {other!r}; drop one.")
        other = folders.setdefault(arm.lower(), arm)
        if other != arm:
            raise UserError(
                f"{where}: arm {arm!r}: on some disks its folder is that of arm {other!r}; "
                "pick another name."
            )


def probes(where: str, names: object) -> tuple[str, ...]:
    """Checks the names of probes and returns them."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise UserError(f"{where}: probes: {names!r} is not a list of names.")
    allowed = (*catalog.MEASURES, *catalog.SIGNALS)
    for name in names:
        if name not in allowed:
            raise unknown(f"{where}: probes", str(name), allowed)
    return tuple(names)


def measured(where: str, claim: Claim, probes: Sequence[str]) -> None:
    """Checks that one of the probes measures the claim's metric, if that needs a probe."""
    try:
        probe = metric.required_probe(claim.metric)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if probe is not None and probe not in probes:
        raise UserError(
            f"{where}: metric: {claim.metric} is measured by probe {probe!r}; "
            f"add probes=[{probe!r}]."
        )


def arm_name(where: str, arm: object) -> None:
    """Checks the name of an arm, which is that of a folder in the workdir."""
    if not isinstance(arm, str) or not _NAME.fullmatch(arm):
        raise UserError(
            f"{where}: arm {arm!r}: allowed are up to 200 letters, digits and "
            "_ . = + - (the name becomes a folder)."
        )
    if arm in _RESERVED:
        raise UserError(f"{where}: arm {arm!r}: is a name in the workdir already; pick another.")
    if re.match(r"[^.]*[0-9]\.[0-9]", arm):
        raise UserError(
            f"{where}: arm {arm!r}: a dot stands between block and arm, so "
            f"{arm.partition('.')[0]!r} would be a block; write the number without a dot."
        )


def claims(where: str, values: object) -> tuple[Claim, ...]:
    """Checks that `values` is a list of claims without duplicates, and returns it."""
    if isinstance(values, Claim | str) or not isinstance(values, Sequence):
        raise UserError(f"{where}: claims: {values!r} is not a list of claims.")
    not_too_many(f"{where}: claims", values)
    keys = [claim.key for claim in values if isinstance(claim, Claim)]
    if len(set(keys)) < len(keys):
        raise UserError(f"{where}: claims: a claim is made twice.")
    return tuple(values)


def not_too_many(where: str, values: Sequence[object]) -> None:
    """Checks that there are at most `MOST_VALUES` claims, or values of a field."""
    if len(values) > MOST_VALUES:
        raise UserError(f"{where}: are {len(values):,}; allowed: at most {MOST_VALUES:,}")


def tune(
    where: str, tune: object, arms: Mapping[str, Any], compared: Sequence[int]
) -> tuple[dict[str, list[Any]], tuple[int, ...]]:
    """Checks an experiment's `tune` and returns its grid and seeds as plain values.

    Args:
      where: see the module.
      tune: an experiment's `tune`.
      arms: the overrides of each arm; none may set a field of the grid.
      compared: the seeds of the comparison; tuning must have others.
    """
    grid = getattr(tune, "grid", None)
    if not isinstance(grid, Mapping) or not grid:
        raise UserError(
            f"{where}: {tune!r} is not valid; write Tune({{path: [value, value]}}): it needs a "
            "field with at least two values."
        )
    for path, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"{where}: {path}: {values!r} is not a list of values.")
        if not isinstance(path, str):
            raise UserError(f"{where}: {path!r} is not a dotted path.")
        not_too_many(f"{where}: {path}", values)
        if len(set(map(repr, values))) < max(2, len(values)):
            raise UserError(f"{where}: {path}: needs at least two values, each once.")
        if any(isinstance(value, list | tuple | dict) for value in values):
            raise UserError(f"{where}: {path}: values must be numbers, texts, true or false.")
        if varying := [arm for arm, overrides in arms.items() if path in overrides]:
            raise UserError(f"{where}: {path}: is what arm {varying[0]!r} is; tune another field.")
    tuning_seeds = seeds(where, getattr(tune, "seeds", ()))
    if shared := set(tuning_seeds) & set(compared):
        raise UserError(
            f"{where}: seed {min(shared)} is one of the comparison; tuning needs its own."
        )
    values = {
        path: [plain_overrides(where, {path: value})[path] for value in grid[path]] for path in grid
    }
    return values, tuning_seeds


def plain_overrides(where: str, overrides: object) -> dict[str, Any]:
    """Checks overrides and returns them as plain values; numpy's numbers become Python's."""
    if not isinstance(overrides, Mapping):
        raise UserError(f"{where}: {overrides!r} is not a dict of dotted paths and values.")
    plain = {}
    for path, value in overrides.items():
        if not isinstance(path, str):
            raise UserError(f"{where}: {path!r} is not a dotted path.")
        plain[path] = value.item() if hasattr(value, "item") else value
        try:
            json.dumps([path, plain[path]], allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(
                f"{where}: {path}: {value!r} is not valid; allowed: numbers, texts, true or false, "
                "None, lists of them"
            ) from None
    return plain


def seeds(where: str, values: Any) -> tuple[int, ...]:
    """Checks seeds, each of which must occur once, and returns them as Python's integers."""
    if hasattr(values, "__len__") and len(values) > MOST_SEEDS:
        raise UserError(f"{where}: seeds: are {len(values):,}; allowed: at most {MOST_SEEDS:,}")
    try:
        seeds = tuple(operator.index(seed) for seed in values if not isinstance(seed, bool))
    except TypeError:
        seeds = ()
    if (
        not seeds
        or not 0 <= min(seeds) <= max(seeds) < SEEDS
        or len(set(seeds)) != len(tuple(values))
    ):
        raise UserError(
            f"{where}: seeds: {values!r} is not valid; allowed: at least one, whole numbers from 0 "
            f"to {SEEDS - 1}, each once"
        )
    return seeds


def claim(
    where: str,
    claim: object,
    arms: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[Metric] | None,
) -> None:
    """Checks that results could decide a claim.

    Args:
      where: see the module.
      claim: the claim.
      arms: the levels of each arm, by dotted path.
      metrics: those of the task; None if they are not known yet.
    """
    if not isinstance(claim, Claim):
        raise UserError(f"{where}: {claim!r} is not a claim; make it with cnnjax.ablation.claims.")
    where = f"{where}: {claim.kind}"
    if text := problem(claim, metrics):
        raise UserError(f"{where}: {text}.")
    factors = {path for values in arms.values() for path in values}
    names = {*arms, *(arm.partition(".")[2] for arm in arms if block_of(arm))}
    for side in claim.sides:
        if isinstance(side, str) and side not in names:
            raise unknown(f"{where}: arm", side, sorted(names))
        for path, value in {} if isinstance(side, str) else side.items():
            if path not in factors:
                raise unknown(f"{where}: factor", path, factors)
            levels = {json.dumps(values.get(path)) for values in arms.values()}
            if json.dumps(value) not in levels:
                raise UserError(
                    f"{where}: {path}: no arm has {value!r}; the levels are "
                    f"{', '.join(sorted(levels))}."
                )
    for block in claim.blocks:
        if block not in map(block_of, arms):
            raise unknown(f"{where}: block", block, sorted({*map(block_of, arms)}))
    blocks = blocks_of(claim, arms)
    if not blocks:
        raise UserError(f"{where}: no block has arms for all of {list(claim.sides)!r}.")
    for block in blocks:
        sides = [arms_of(side, block, arms) for side in claim.sides]
        if len(set(sides)) < len(sides):
            raise UserError(f"{where}: two of its sides are the same arms: {', '.join(sides[0])}.")
        if claim.kind in OF_RUNS and len(sides[0]) > 1:
            raise UserError(
                f"{where}: {', '.join(sides[0])} share their seeds, so that their runs cannot be "
                "counted together; name one arm."
            )
        if unbalanced := unbalanced_factors(claim, block, arms):
            raise UserError(
                f"{where}: the arms of its sides differ in {', '.join(unbalanced)} too: "
                f"{'; '.join(', '.join(side) for side in sides)}. Name arms, or cross the factors."
            )
