"""Statements that a computer can check on the results of a study. No jax.

A claim compares sides. A side is the name of an arm (`"he"`; `"plain30.he"` for one block only), or
levels (`{"model.norm.kind": "batch"}`): the mean over all arms of a block that have them, as in the
main effect of a crossed or fractional design. A claim without blocks is tested in every block that
has its arms, and counts once for each.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from cnnjax import metric
from cnnjax.errors import UserError, shown, unknown
from cnnjax.metric import ACCURACY, CLASSIFICATION, Metric

Side = str | Mapping[str, Any]
ClaimKind = Literal["better", "equivalent", "monotone", "interaction", "diverges", "chance_level"]
Direction = Literal["positive", "negative", "either"]

MOST_LEVELS = 1000  # of a claim
OF_RUNS: tuple[ClaimKind, ...] = ("diverges", "chance_level")
"""The kinds that claim something of a share of the runs."""
_KINDS_WITH: Mapping[str, tuple[ClaimKind, ...]] = {
    "metric": ("better", "equivalent", "monotone", "interaction"),
    "margin": ("better", "equivalent", "monotone", "interaction"),
    "direction": ("interaction",),
    "share": OF_RUNS,
}
"""The kinds of claim in which a field has a meaning, for fields that not all kinds have."""

_NUM_SIDES: Mapping[str, Sequence[int]] = {
    "better": [2],
    "equivalent": [2],
    "monotone": range(2, 10**6),
    "interaction": [4],
    "diverges": [1],
    "chance_level": [1],
}
"""The possible numbers of sides of each kind."""
_TEXTS = ("source", "published", "reason")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim; made by the functions below.

    Attributes:
      kind: the kind of claim.
      sides: the sides that are compared, in the order of the arguments of `kind`'s function.
      source: the passage of the lecture, or the paper, that it comes from.
      published: published figures and their setting; shown beside the results.
      metric: the metric that is compared, a name for `cnnjax.metric.find`.
      margin: `by` or `within`, in the unit of the metric's differences: points for accuracy, nats
        for loss.
      reason: why the margin has this value.
      direction: of an interaction.
      share: of the runs of an arm, for `diverges` and `chance_level`.
      blocks: the blocks in which it is tested; empty for all.
      expected: whether it was expected to hold before anything was run.
    """

    kind: ClaimKind
    sides: tuple[Side, ...]
    source: str = ""
    published: str = ""
    metric: str = ACCURACY.name
    margin: float = 0.0
    reason: str = ""
    direction: Direction = "either"
    share: float = 0.5
    blocks: tuple[str, ...] = ()
    expected: bool = True

    @property
    def key(self) -> str:
        """Identifies the claim: all fields that decide the verdict, as text."""
        decides = ("kind", "sides", "metric", "margin", "direction", "share", "blocks")
        return json.dumps([getattr(self, field) for field in decides], sort_keys=True)


def _claim(kind: ClaimKind, sides: tuple[Side, ...], **fields: Any) -> Claim:
    """A claim. Raises UserError for a keyword that is no field of it."""
    allowed = [field.name for field in dataclasses.fields(Claim)[2:]]  # without kind and sides
    for name in fields:
        if name not in allowed:
            raise unknown(f"claims: {kind}: keyword", name, allowed)
    return Claim(kind, sides, **fields)


def better(a: Side, b: Side, *, by: float = 0.0, **about: Any) -> Claim:
    """a beats b by more than `by`, in the direction in which the metric is better: higher accuracy,
    lower loss.

    Further keywords, here and below, are fields of `Claim`: source, published, metric, reason,
    blocks, expected.
    """
    return _claim("better", (a, b), margin=by, **about)


def equivalent(a: Side, b: Side, *, within: float = 0.0, reason: str = "", **about: Any) -> Claim:
    """a and b differ by less than `within`, either way; `reason` says why that is little. Both are
    required."""
    return _claim("equivalent", (a, b), margin=within, reason=reason, **about)


def monotone(levels: Sequence[Side], *, by: float = 0.0, **about: Any) -> Claim:
    """Each level beats the one before it by more than `by`."""
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise UserError(f"monotone: {levels!r} is not a list of levels.")
    if len(levels) > MOST_LEVELS:
        raise UserError(f"monotone: {len(levels):,} levels; allowed: at most {MOST_LEVELS:,}.")
    return _claim("monotone", tuple(levels), margin=by, **about)


def interaction(
    f: Mapping[str, Sequence[Any]],
    g: Mapping[str, Sequence[Any]],
    *,
    direction: Direction = "either",
    by: float = 0.0,
    given: Mapping[str, Any] | None = None,
    **about: Any,
) -> Claim:
    """The effect of f depends on g, among the arms with the levels in `given`.

    f and g are `{path: (from, to)}`; `positive`: the change of f gains more at the second level of
    g than at the first, `negative`: less.

    Raises UserError if f or g is not one path with two levels.
    """
    for factor in (f, g):
        pairs = list(factor.values()) if isinstance(factor, Mapping) else []
        if len(pairs) != 1 or not isinstance(pairs[0], list | tuple) or len(pairs[0]) != 2:
            raise UserError(f"interaction: {factor!r} is not one path with two levels.")
    (path_f, levels_f), (path_g, levels_g) = *f.items(), *g.items()
    sides = tuple({path_f: a, path_g: b, **(given or {})} for b in levels_g for a in levels_f)
    return _claim("interaction", sides, direction=direction, margin=by, **about)


def diverges(a: Side, *, share: float = 0.5, **about: Any) -> Claim:
    """More than `share` of the runs of a diverge."""
    return _claim("diverges", (a,), share=share, **about)


def chance_level(a: Side, *, share: float = 0.5, **about: Any) -> Claim:
    """More than `share` of the runs of a diverge or end no better than chance."""
    return _claim("chance_level", (a,), share=share, **about)


def block_of(arm: str) -> str:
    """The block of an arm: its name up to the first dot; "" if it has none."""
    block, dot, _ = arm.partition(".")
    return block if dot else ""


def arms_of(side: Side, block: str, arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The arms of a side in a block.

    Args:
      side: a side of a claim.
      block: the block.
      arms: the values of the factors, by dotted path, of each arm of the study.
    """
    in_block = [arm for arm in arms if block_of(arm) == block]
    if isinstance(side, str):
        names = {side, f"{block}.{side}"} if block else {side}
        return tuple(arm for arm in in_block if arm in names)
    return tuple(
        arm
        for arm in in_block
        if all(json.dumps(arms[arm].get(path)) == json.dumps(v) for path, v in side.items())
    )


def blocks_of(claim: Claim, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The blocks that have arms for every side of a claim, in the order of the arms."""
    blocks = dict.fromkeys(map(block_of, arms))
    return [
        block
        for block in blocks
        if (not claim.blocks or block in claim.blocks)
        and all(arms_of(side, block, arms) for side in claim.sides)
    ]


def unbalanced_factors(
    claim: Claim, block: str, arms: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The factors that confound a claim: those whose levels are not equally frequent on all sides
    that are given as levels, though no side names them."""
    sides = [side for side in claim.sides if not isinstance(side, str)]
    named = {path for side in sides for path in side}
    paths = dict.fromkeys(path for values in arms.values() for path in values)
    by_side = [arms_of(side, block, arms) for side in sides]

    def shares(names: Sequence[str], path: str) -> dict[str, float]:
        counts = collections.Counter(json.dumps(arms[name].get(path)) for name in names)
        return {level: count / len(names) for level, count in counts.items()}

    return [
        path
        for path in paths
        if path not in named
        and any(shares(names, path) != shares(by_side[0], path) for names in by_side)
    ]


def to_dict(claim: Claim) -> dict[str, Any]:
    """A claim as plain values."""
    return dataclasses.asdict(claim)


def from_dict(values: Mapping[str, Any], task: Sequence[Metric] = CLASSIFICATION) -> Claim:
    """The inverse of `to_dict`, for the metrics of a task; unknown keys are ignored, and values of
    text fields are converted to text. Raises ValueError for what is not a claim."""
    names = {field.name for field in dataclasses.fields(Claim)}
    try:
        fields = {name: value for name, value in values.items() if name in names}
        fields |= {name: str(fields[name]) for name in _TEXTS if name in fields}
        sides, blocks = _tuple(fields.pop("sides")), _tuple(fields.pop("blocks", ()))
        claim = Claim(sides=sides, blocks=blocks, **fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a claim that makes no sense ({error})") from None
    if text := problem(claim, task):
        raise ValueError(f"a claim that makes no sense ({text})")
    return claim


def _tuple(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


def problem(claim: Claim, task: Sequence[Metric] | None = CLASSIFICATION) -> str:
    """What is wrong with a claim, whatever the arms; "" if nothing is. `task` are the metrics of
    the task; if they are not known yet (None), the claim's metric is not checked."""
    if not isinstance(claim.kind, str) or claim.kind not in _NUM_SIDES:
        return f"{claim.kind!r} is no kind of claim; allowed: {', '.join(_NUM_SIDES)}"
    if not isinstance(claim.sides, list | tuple):
        return f"sides: {claim.sides!r} is not a list"
    if len(claim.sides) not in (numbers := _NUM_SIDES[claim.kind]):
        least = "at least " if len(numbers) > 1 else ""
        return f"needs {least}{numbers[0]} sides, not {len(claim.sides)}"
    for side in claim.sides:
        if not isinstance(side, str | Mapping) or not side:
            return f"{shown(side)} is neither an arm's name nor a dict of levels"
    if claim.kind == "interaction" and not _are_crossed(claim.sides):
        return f"sides: {shown(claim.sides)} are not two levels of one factor by two of another"
    if not isinstance(claim.blocks, list | tuple) or not all(
        isinstance(b, str) for b in claim.blocks
    ):
        return f"blocks: {claim.blocks!r} is not a list of names"
    if not isinstance(claim.metric, str):
        return f"metric: {claim.metric!r} is not text"
    if not isinstance(claim.margin, int | float) or isinstance(claim.margin, bool):
        return f"margin: {claim.margin!r} is not a number"
    if task is not None and (text := _metric_problem(claim, task)):
        return text
    if not isinstance(claim.expected, bool):
        return f"expected: {claim.expected!r} is neither True nor False"
    for name, kinds in _KINDS_WITH.items():
        if claim.kind not in kinds and getattr(claim, name) != getattr(Claim, name):  # the default
            return f"{name}: means nothing here; it belongs to {', '.join(kinds)}"
    for name in _TEXTS:
        if not isinstance(getattr(claim, name), str):
            return f"{name}: {getattr(claim, name)!r} is not text"
    if not isinstance(claim.share, int | float) or not 0 < claim.share < 1:
        return f"share: {claim.share!r} is not valid; allowed: between 0 and 1"
    if claim.direction not in get_args(Direction):
        allowed = ", ".join(get_args(Direction))
        return f"direction: {claim.direction!r} is not valid; allowed: {allowed}"
    if claim.kind == "equivalent" and (not claim.margin or not claim.reason):
        return "needs a margin above 0 and a reason for it"
    return ""


def metric_of(claim: Claim, task: Sequence[Metric] = CLASSIFICATION) -> Metric:
    """The metric that a claim compares, of the metrics of a task: the first by default, and for
    claims of a share of the runs. Raises UserError for an unknown metric."""
    default = claim.metric == ACCURACY.name and ACCURACY not in task
    return task[0] if default or claim.kind in OF_RUNS else metric.find(claim.metric, task)


def _metric_problem(claim: Claim, task: Sequence[Metric]) -> str:
    try:
        compared = metric_of(claim, task)
    except UserError as error:
        return str(error).rstrip(".")
    largest = compared.scale * compared.difference_ends()[1]
    if 0 <= claim.margin < largest:
        return ""
    unit = f", in {compared.difference_unit}" if compared.difference_unit else ""
    below = f" and below {largest:g}" if largest < float("inf") else ""
    return f"margin: {claim.margin!r} is not valid; allowed: from 0 on{below}{unit}"


def _are_crossed(sides: Sequence[Side]) -> bool:
    """Whether there are four sides with the same paths, the first two of them the factors."""
    paths = [set(side) for side in sides if isinstance(side, Mapping)]
    return len(paths) == 4 and len(paths[0]) > 1 and all(each == paths[0] for each in paths)
