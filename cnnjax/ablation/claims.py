"""Statements that a computer can check on the results of a study. No jax.

A claim is about sides. A side is the name of an arm (`"he"`; `"plain30.he"` for one block only), or
levels (`{"model.norm.kind": "batch"}`): the mean over all arms of a block that have them, which in
a crossed or fractional design is what a main effect is made of. A claim that names no block is
checked in every block that has its arms, and counts once for each.
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
Kind = Literal["better", "equivalent", "monotone", "interaction", "diverges", "chance_level"]
Direction = Literal["positive", "negative", "either"]

MOST_LEVELS = 1000  # of a claim
OF_RUNS: tuple[Kind, ...] = ("diverges", "chance_level")
"""Kinds that are about how many runs do a thing."""
_ONLY: Mapping[str, tuple[Kind, ...]] = {
    "metric": ("better", "equivalent", "monotone", "interaction"),
    "margin": ("better", "equivalent", "monotone", "interaction"),
    "direction": ("interaction",),
    "share": OF_RUNS,
}
"""Words that mean something for some kinds only."""

_SIDES: Mapping[str, Sequence[int]] = {
    "better": [2],
    "equivalent": [2],
    "monotone": range(2, 10**6),
    "interaction": [4],
    "diverges": [1],
    "chance_level": [1],
}
"""How many sides each kind has."""
_TEXTS = ("source", "published", "reason")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim; made by the functions below.

    Attributes:
      kind: what is claimed.
      sides: what it is claimed of, in the order of the function that made it.
      source: the passage of the lecture, or the paper, that it comes from.
      published: what was found elsewhere, in figures, and on what; shown beside what is found.
      metric: what is compared, a name that `cnnjax.metric.find` knows.
      margin: `by` or `within`, in the unit of the metric's differences: points for accuracy, nats
        for loss.
      reason: why the margin is what it is.
      direction: of an interaction.
      share: of the runs of an arm, for `diverges` and `chance_level`.
      blocks: the blocks that it is made for; empty for all.
      expected: whether it was expected to hold before anything was run.
    """

    kind: Kind
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
        """What makes it this claim and no other: all that decides the verdict."""
        decides = ("kind", "sides", "metric", "margin", "direction", "share", "blocks")
        return json.dumps([getattr(self, field) for field in decides], sort_keys=True)


def _made(kind: Kind, sides: tuple[Side, ...], **fields: Any) -> Claim:
    """A claim. Raises UserError for a word that is no field of it."""
    words = [
        field.name for field in dataclasses.fields(Claim) if field.name not in ("kind", "sides")
    ]
    for name in fields:
        if name not in words:
            raise unknown(f"claims: {kind}: word", name, words)
    return Claim(kind, sides, **fields)


def better(a: Side, b: Side, *, by: float = 0.0, **about: Any) -> Claim:
    """a beats b by more than `by`: higher accuracy, lower loss; in the direction in which the
    metric is better.

    Further words, here and below, are fields of `Claim`: source, published, metric, reason, blocks,
    expected.
    """
    return _made("better", (a, b), margin=by, **about)


def equivalent(a: Side, b: Side, *, within: float = 0.0, reason: str = "", **about: Any) -> Claim:
    """a and b differ by less than `within`, either way; `reason` says why that is little. Neither
    may be left out."""
    return _made("equivalent", (a, b), margin=within, reason=reason, **about)


def monotone(levels: Sequence[Side], *, by: float = 0.0, **about: Any) -> Claim:
    """Each level beats the one before it by more than `by`."""
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise UserError(f"monotone: {levels!r} is not a list of levels.")
    if len(levels) > MOST_LEVELS:
        raise UserError(f"monotone: {len(levels):,} levels; allowed: at most {MOST_LEVELS:,}.")
    return _made("monotone", tuple(levels), margin=by, **about)


def interaction(
    f: Mapping[str, Sequence[Any]],
    g: Mapping[str, Sequence[Any]],
    *,
    direction: Direction = "either",
    by: float = 0.0,
    given: Mapping[str, Any] | None = None,
    **about: Any,
) -> Claim:
    """What f does depends on g, among the arms with the levels in `given`.

    f and g are `{path: (from, to)}`; `positive`: going from-to in f gains more where g stands at
    its second level than at its first, `negative`: less.

    Raises UserError where f or g is not one path with two levels.
    """
    for factor in (f, g):
        pairs = list(factor.values()) if isinstance(factor, Mapping) else []
        if len(pairs) != 1 or not isinstance(pairs[0], list | tuple) or len(pairs[0]) != 2:
            raise UserError(f"interaction: {factor!r} is not one path with two levels.")
    (path_f, levels_f), (path_g, levels_g) = *f.items(), *g.items()
    sides = tuple({path_f: a, path_g: b, **(given or {})} for b in levels_g for a in levels_f)
    return _made("interaction", sides, direction=direction, margin=by, **about)


def diverges(a: Side, *, share: float = 0.5, **about: Any) -> Claim:
    """More than `share` of the runs of a diverge."""
    return _made("diverges", (a,), share=share, **about)


def chance_level(a: Side, *, share: float = 0.5, **about: Any) -> Claim:
    """More than `share` of the runs of a end no better than chance, or diverge."""
    return _made("chance_level", (a,), share=share, **about)


def block_of(arm: str) -> str:
    """The block of an arm: what stands before the first dot of its name, "" without one."""
    block, dot, _ = arm.partition(".")
    return block if dot else ""


def members(side: Side, block: str, arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The arms that a side stands for in a block.

    Args:
      side: a side of a claim.
      block: the block.
      arms: of each arm of the study, the values of its factors by dotted path.
    """
    inside = [arm for arm in arms if block_of(arm) == block]
    if isinstance(side, str):
        names = {side, f"{block}.{side}"} if block else {side}
        return tuple(arm for arm in inside if arm in names)
    return tuple(
        arm
        for arm in inside
        if all(_same(arms[arm].get(path), value) for path, value in side.items())
    )


def where(claim: Claim, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The blocks that have arms for every side of a claim, in the order of the arms."""
    blocks = dict.fromkeys(map(block_of, arms))
    return [
        block
        for block in blocks
        if (not claim.blocks or block in claim.blocks)
        and all(members(side, block, arms) for side in claim.sides)
    ]


def imbalance(claim: Claim, block: str, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The factors in which the sides of a claim differ besides what they are asked for: those whose
    levels are not equally frequent on all sides that are given as levels. Then the difference of
    their means is not that of the levels alone."""
    asked = [side for side in claim.sides if not isinstance(side, str)]
    given = {path for side in asked for path in side}
    paths = dict.fromkeys(path for values in arms.values() for path in values)
    found = []
    for path in paths:
        shares = []
        for side in asked:
            names = members(side, block, arms)
            counts = collections.Counter(json.dumps(arms[name].get(path)) for name in names)
            shares.append({level: count / len(names) for level, count in counts.items()})
        if path not in given and any(share != shares[0] for share in shares):
            found.append(path)
    return found


def write(claim: Claim) -> dict[str, Any]:
    """A claim as plain values."""
    return dataclasses.asdict(claim)


def read(values: Mapping[str, Any], task: Sequence[Metric] = CLASSIFICATION) -> Claim:
    """A claim from `write`'s values, on the metrics of a task; others beside them are passed over,
    and texts that are none are made so. Raises ValueError."""
    fields = {field.name for field in dataclasses.fields(Claim)}
    try:
        own = {name: value for name, value in values.items() if name in fields}
        own |= {name: str(own[name]) for name in _TEXTS if name in own}
        sides, blocks = _tuple(own.pop("sides")), _tuple(own.pop("blocks", ()))
        claim = Claim(sides=sides, blocks=blocks, **own)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a claim that makes no sense ({error})") from None
    if nonsense := wrong(claim, task):
        raise ValueError(f"a claim that makes no sense ({nonsense})")
    return claim


def _tuple(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


def wrong(claim: Claim, task: Sequence[Metric] | None = CLASSIFICATION) -> str:
    """What is wrong with a claim whatever the arms, "" for nothing; `task` are the metrics of the
    task, or None where those are not known yet, and nothing is said of the claim's."""
    if not isinstance(claim.kind, str) or claim.kind not in _SIDES:
        return f"{claim.kind!r} is no kind of claim; allowed: {', '.join(_SIDES)}"
    if not isinstance(claim.sides, list | tuple):
        return f"sides: {claim.sides!r} is not a list"
    if len(claim.sides) not in (numbers := _SIDES[claim.kind]):
        least = "at least " if len(numbers) > 1 else ""
        return f"needs {least}{numbers[0]} sides, not {len(claim.sides)}"
    for side in claim.sides:
        if not isinstance(side, str | Mapping) or not side:
            return f"{shown(side)} is neither an arm's name nor a dict of levels"
    if claim.kind == "interaction" and not _crossed(claim.sides):
        return f"sides: {shown(claim.sides)} are not two levels of one factor by two of another"
    if not isinstance(claim.blocks, list | tuple) or not all(
        isinstance(b, str) for b in claim.blocks
    ):
        return f"blocks: {claim.blocks!r} is not a list of names"
    if not isinstance(claim.metric, str):
        return f"metric: {claim.metric!r} is not text"
    if not isinstance(claim.margin, int | float) or isinstance(claim.margin, bool):
        return f"margin: {claim.margin!r} is not a number"
    if task is not None and (nonsense := _wrong_metric(claim, task)):
        return nonsense
    if not isinstance(claim.expected, bool):
        return f"expected: {claim.expected!r} is neither True nor False"
    for name, kinds in _ONLY.items():
        usual = Claim.__dataclass_fields__[name].default
        if claim.kind not in kinds and getattr(claim, name) != usual:
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


def compared(claim: Claim, task: Sequence[Metric] = CLASSIFICATION) -> Metric:
    """What a claim compares, by the metrics of a task: the first where it says nothing else, or is
    about how many runs do a thing. Raises UserError for a metric that there is not."""
    default = claim.metric == ACCURACY.name and ACCURACY not in task
    return task[0] if default or claim.kind in OF_RUNS else metric.find(claim.metric, task)


def _wrong_metric(claim: Claim, task: Sequence[Metric]) -> str:
    try:
        measured = compared(claim, task)
    except UserError as error:
        return str(error).rstrip(".")
    largest = measured.scale * measured.ends_of_differences()[1]
    if 0 <= claim.margin < largest:
        return ""
    unit = f", in {measured.difference_unit}" if measured.difference_unit else ""
    below = f" and below {largest:g}" if largest < float("inf") else ""
    return f"margin: {claim.margin!r} is not valid; allowed: from 0 on{below}{unit}"


def _crossed(sides: Sequence[Side]) -> bool:
    """Whether four sides have the same paths, of which the first two are the factors."""
    paths = [set(side) for side in sides if isinstance(side, Mapping)]
    return len(paths) == 4 and len(paths[0]) > 1 and all(own == paths[0] for own in paths)


def _same(a: Any, b: Any) -> bool:
    return json.dumps(a) == json.dumps(b)
