"""What makes sense in an experiment, and what does not: UserError, before anything is run.

Each function takes the place of what it looks at, which its message begins with.
"""

import json
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax import catalog, metric
from cnnjax.ablation.claims import OF_RUNS, Claim, block_of, imbalance, members, where, wrong
from cnnjax.errors import UserError, unknown
from cnnjax.metric import Metric

_TAKEN = (
    "study",
    "figures",
    "final",
    "logs",
    "study.json",
    "report.html",
    "report.md",
    "results.csv",
    "signals.csv",
    "tables.tex",
    "tuning",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,199}")
SEEDS = 10**9  # no seed is as large
MOST_SEEDS = 10_000  # of one study
MOST = 10_000  # claims, and values of a field that is tuned


def name(given: Any) -> None:
    """The name of an experiment, which is that of a folder once it is published."""
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise UserError(
            f"experiment {given!r}: name: allowed are up to 200 letters, digits and _ . = + - "
            "(published, the name becomes a folder)."
        )


def distinct(place: str, arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Arms, with all that the experiment sets in them, of which no two of a block are one, or would
    share a folder."""
    known: dict[Any, str] = {}
    folders: dict[str, str] = {}
    for arm, own in arms.items():
        other = known.setdefault((block_of(arm), json.dumps(own, sort_keys=True)), arm)
        if other != arm:
            raise UserError(f"{place}: arm {arm!r}: is the same as arm {other!r}; drop one.")
        other = folders.setdefault(arm.lower(), arm)
        if other != arm:
            raise UserError(
                f"{place}: arm {arm!r}: on some disks its folder is that of arm {other!r}; "
                "pick another name."
            )


def probes(place: str, named: Any) -> tuple[str, ...]:
    """The names of probes."""
    if isinstance(named, str) or not isinstance(named, Sequence):
        raise UserError(f"{place}: probes: {named!r} is not a list of names.")
    for name in named:
        if name not in (known := (*catalog.MEASURES, *catalog.SIGNALS)):
            raise unknown(f"{place}: probes", str(name), known)
    return tuple(named)


def measured(place: str, stated: Claim, named: Sequence[str]) -> None:
    """A claim's metric, which one of these probes must measure if it is none of every run."""
    try:
        probe = metric.probe(stated.metric)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    if probe is not None and probe not in named:
        raise UserError(
            f"{place}: metric: {stated.metric} is measured by probe {probe!r}; "
            f"add probes=[{probe!r}]."
        )


def arm_name(place: str, arm: Any) -> None:
    """The name of an arm, which is that of a folder in the workdir."""
    if not isinstance(arm, str) or not _NAME.fullmatch(arm):
        raise UserError(
            f"{place}: arm {arm!r}: allowed are up to 200 letters, digits and "
            "_ . = + - (the name becomes a folder)."
        )
    if arm in _TAKEN:
        raise UserError(f"{place}: arm {arm!r}: is a name in the workdir already; pick another.")
    if re.match(r"[^.]*[0-9]\.[0-9]", arm):
        raise UserError(
            f"{place}: arm {arm!r}: a dot stands between block and arm, so "
            f"{arm.partition('.')[0]!r} would be a block; write the number without a dot."
        )


def claims(place: str, stated: Any) -> tuple[Claim, ...]:
    """A list of claims, each made once."""
    if isinstance(stated, Claim | str) or not isinstance(stated, Sequence):
        raise UserError(f"{place}: claims: {stated!r} is not a list of claims.")
    not_too_many(f"{place}: claims", stated)
    keys = [claim.key for claim in stated if isinstance(claim, Claim)]
    if len(set(keys)) < len(keys):
        raise UserError(f"{place}: claims: a claim is made twice.")
    return tuple(stated)


def not_too_many(place: str, values: Sequence[Any]) -> None:
    """Claims, or values of a field, of which there are at most `MOST`."""
    if len(values) > MOST:
        raise UserError(f"{place}: are {len(values):,}; allowed: at most {MOST:,}")


def tune(
    place: str, asked: Any, arms: Mapping[str, Any], compared: Sequence[int]
) -> tuple[dict[str, list[Any]], tuple[int, ...]]:
    """The grid and the seeds, as plain values, by which arms with these overrides, compared over
    other seeds, choose for themselves."""
    grid = getattr(asked, "grid", None)
    if not isinstance(grid, Mapping) or not grid:
        raise UserError(
            f"{place}: {asked!r} is not valid; write Tune({{path: [value, value]}}): it needs a "
            "field with at least two values."
        )
    for path, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"{place}: {path}: {values!r} is not a list of values.")
        if not isinstance(path, str):
            raise UserError(f"{place}: {path!r} is not a dotted path.")
        not_too_many(f"{place}: {path}", values)
        if len(set(map(repr, values))) < max(2, len(values)):
            raise UserError(f"{place}: {path}: needs at least two values, each once.")
        if any(isinstance(value, list | tuple | dict) for value in values):
            raise UserError(f"{place}: {path}: values must be numbers, texts, true or false.")
        varying = [arm for arm, own in arms.items() if path in own]
        if varying:
            raise UserError(f"{place}: {path}: is what arm {varying[0]!r} is; tune another field.")
    own = seeds(place, asked.seeds)
    shared = set(own) & set(compared)
    if shared:
        raise UserError(
            f"{place}: seed {min(shared)} is one of the comparison; tuning needs its own."
        )
    found = {path: [plain(place, {path: each})[path] for each in grid[path]] for path in grid}
    return found, own


def plain(place: str, overrides: Any) -> dict[str, Any]:
    """Overrides as plain values; numpy's numbers become Python's."""
    if not isinstance(overrides, Mapping):
        raise UserError(f"{place}: {overrides!r} is not a dict of dotted paths and values.")
    found = {}
    for path, value in overrides.items():
        if not isinstance(path, str):
            raise UserError(f"{place}: {path!r} is not a dotted path.")
        found[path] = value.item() if hasattr(value, "item") else value
        try:
            json.dumps([path, found[path]], allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(
                f"{place}: {path}: {value!r} is not valid; allowed: numbers, texts, true or false, "
                "None, lists of them"
            ) from None
    return found


def seeds(place: str, given: Any) -> tuple[int, ...]:
    """Seeds, each once."""
    if hasattr(given, "__len__") and len(given) > MOST_SEEDS:
        raise UserError(f"{place}: seeds: are {len(given):,}; allowed: at most {MOST_SEEDS:,}")
    try:
        found = tuple(operator.index(seed) for seed in given if not isinstance(seed, bool))
    except TypeError:
        found = ()
    if not found or not 0 <= min(found) <= max(found) < SEEDS or len({*found}) != len(tuple(given)):
        raise UserError(
            f"{place}: seeds: {given!r} is not valid; allowed: at least one, whole numbers from 0 "
            f"to {SEEDS - 1}, each once"
        )
    return found


def claim(
    place: str,
    stated: Any,
    arms: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[Metric] | None,
) -> None:
    """A claim on these arms, with their levels, that some result could decide; `metrics` are those
    of the task, None where they are not known yet."""
    if not isinstance(stated, Claim):
        raise UserError(f"{place}: {stated!r} is not a claim; make it with cnnjax.ablation.claims.")
    place = f"{place}: {stated.kind}"
    if nonsense := wrong(stated, metrics):
        raise UserError(f"{place}: {nonsense}.")
    factors = {path for values in arms.values() for path in values}
    names = {*arms, *(arm.partition(".")[2] for arm in arms if block_of(arm))}
    for side in stated.sides:
        if isinstance(side, str) and side not in names:
            raise unknown(f"{place}: arm", side, sorted(names))
        for path, value in {} if isinstance(side, str) else side.items():
            if path not in factors:
                raise unknown(f"{place}: factor", path, factors)
            levels = {json.dumps(own.get(path)) for own in arms.values()}
            if json.dumps(value) not in levels:
                raise UserError(
                    f"{place}: {path}: no arm has {value!r}; the levels are "
                    f"{', '.join(sorted(levels))}."
                )
    for block in stated.blocks:
        if block not in map(block_of, arms):
            raise unknown(f"{place}: block", block, sorted({*map(block_of, arms)}))
    if not where(stated, arms):
        raise UserError(f"{place}: no block has arms for all of {list(stated.sides)!r}.")
    for block in where(stated, arms):
        sides = [members(side, block, arms) for side in stated.sides]
        if len(set(sides)) < len(sides):
            raise UserError(f"{place}: two of its sides are the same arms: {', '.join(sides[0])}.")
        if stated.kind in OF_RUNS and len(sides[0]) > 1:
            raise UserError(
                f"{place}: {', '.join(sides[0])} share their seeds, so that their runs cannot be "
                "counted together; name one arm."
            )
        if apart := imbalance(stated, block, arms):
            raise UserError(
                f"{place}: the arms of its sides differ in {', '.join(apart)} too: "
                f"{'; '.join(', '.join(side) for side in sides)}. Name arms, or cross the factors."
            )
