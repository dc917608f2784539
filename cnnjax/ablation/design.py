"""Arms from factors: all combinations, one factor at a time, a fraction of all. No jax.

Everywhere a factor is a dotted path with its levels, `{short name: value}`, first level first. Arms
are called by the short names joined with `_`; an empty short name is left out, and an arm without
any is `base`.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cnnjax.errors import UserError, unknown

Factors = Mapping[str, Mapping[str, Any]]
Arms = dict[str, dict[str, Any]]


def crossed(factors: Factors) -> Arms:
    """The full crossing: one arm for each combination of levels, first levels first.

    Example: `crossed({"model.activation": {"relu": "relu", "tanh": "tanh"},
    "model.norm.kind": {"": "none", "bn": "batch"}})` has arms relu, relu_bn, tanh, tanh_bn.
    """
    return _named(_arm(factors, names) for names in itertools.product(*factors.values()))


def one_at_a_time(factors: Factors) -> Arms:
    """The first level of every factor, then each other level alone. Cheap, and blind to
    interactions: `crossed` or `fractional` see them."""
    first = [next(iter(levels)) for levels in factors.values()]
    chosen = [first] + [
        [*first[:place], name, *first[place + 1 :]]
        for place, levels in enumerate(factors.values())
        for name in itertools.islice(levels, 1, None)
    ]
    return _named(_arm(factors, names) for names in chosen)


def fractional(factors: Factors, generators: Mapping[str, Sequence[str]]) -> Arms:
    """The fraction 2^(k-p) of the crossing of k factors of two levels.

    Args:
      factors: the k factors.
      generators: p of the factors, each with those of the others that decide it: it has its second
        level where an odd number of them have theirs. The arm of all first levels is in it.

    Raises UserError for factors without two levels, and for generators that are no factors or hang
    on one another.

    Example: a half of 2^5 in which nothing short of a four-factor interaction is mixed up with a
    main effect (resolution V): `fractional(five, {"e": ("a", "b", "c", "d")})`.
    Source: Box, Hunter and Hunter 2005, "Statistics for Experimenters", chapter 6.
    """
    for path, levels in factors.items():
        if len(levels) != 2:
            raise UserError(
                f"fractional: {path}: has {len(levels)} levels; a fraction needs two of each."
            )
    free = [path for path in factors if path not in generators]
    for path, deciding in generators.items():
        for name in (path, *deciding):
            if name not in factors:
                raise unknown("fractional: factor", name, factors)
        if not deciding or not set(deciding) <= set(free):
            raise UserError(
                f"fractional: {path}: is decided by {', '.join(deciding) or 'nothing'}; allowed: "
                f"factors without a generator ({', '.join(free)})."
            )
    arms = []
    for bits in itertools.product((0, 1), repeat=len(free)):
        place = dict(zip(free, bits, strict=True))
        place |= {path: sum(place[d] for d in own) % 2 for path, own in generators.items()}
        arms.append(_arm(factors, [list(factors[path])[place[path]] for path in factors]))
    return _named(arms)


def in_blocks(
    blocks: Mapping[str, Mapping[str, Any]], arms: Mapping[str, Mapping[str, Any]]
) -> Arms:
    """Every arm in every block, called `block.arm`. A block's overrides give way to the arm's."""
    return {
        f"{block}.{arm}": {**shared, **overrides}
        for block, shared in blocks.items()
        for arm, overrides in arms.items()
    }


def defining_words(levels: Collection[Mapping[str, int]]) -> list[tuple[str, ...]]:
    """The sets of two-level factors whose levels hang together in a design, shortest first.

    Args:
      levels: of each arm, factor -> 0 (first level) or 1.

    The length of the shortest is the resolution of the design (III, IV, V ...); a full crossing has
    none. The effect of a set of factors cannot be told from that of its difference with any word.
    """
    factors = list(next(iter(levels), {}))
    return [
        word
        for size in range(1, len(factors) + 1)
        for word in itertools.combinations(factors, size)
        if len({sum(arm[factor] for factor in word) % 2 for arm in levels}) == 1
    ]


def aliases(effect: Collection[str], words: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The effects that a design with these defining words cannot tell from `effect`."""
    mixed = [tuple(sorted(set(effect) ^ set(word))) for word in words]
    return sorted((alias for alias in mixed if alias), key=len)


def describe(levels: Collection[Mapping[str, Any]]) -> str:
    """A design in a sentence, from the values of the factors in each arm; "" for no such design."""
    varied, rows = _coded(levels)
    if len(varied) < 2 or len(set(rows)) < len(rows):
        return ""
    if len(rows) == math.prod(varied.values()):
        sizes = " x ".join(map(str, varied.values()))
        return f"Full crossing of {len(varied)} factors ({sizes})."
    words = fraction(levels)
    if not words:
        return ""
    resolution, left_out = len(words[0]), (len(words) + 1).bit_length() - 1
    numeral = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII"}.get(resolution, str(resolution))
    return (
        f"A fraction 2^({len(varied)}-{left_out}) of all combinations, of resolution {numeral}: "
        f"what hangs together is {named(words)}, so a main effect is mixed up with nothing shorter "
        f"than an interaction of {resolution - 1} factors."
    )


def fraction(levels: Collection[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The defining words of a fraction 2^(k-p), from the values of the factors in each arm; none
    for any other design."""
    varied, rows = _coded(levels)
    whole = math.prod(varied.values())
    if set(varied.values()) != {2} or len(set(rows)) < len(rows) or len(rows) == whole:
        return []
    words = defining_words([dict(zip(varied, row, strict=True)) for row in rows])
    return words if words and len(rows) * (len(words) + 1) == whole else []


def named(effects: Collection[tuple[str, ...]]) -> str:
    """Effects in words: the factors of each without their rooms."""
    return "; ".join(" x ".join(path.rpartition(".")[2] for path in effect) for effect in effects)


def _coded(
    levels: Collection[Mapping[str, Any]],
) -> tuple[dict[str, int], list[tuple[int, ...]]]:
    """The factors that vary with their numbers of levels, and each arm's levels by number."""
    paths = list(next(iter(levels), {}))
    own = {path: list(dict.fromkeys(repr(arm[path]) for arm in levels)) for path in paths}
    varied = {path: values for path, values in own.items() if len(values) > 1}
    rows = [
        tuple(values.index(repr(arm[path])) for path, values in varied.items()) for arm in levels
    ]
    return {path: len(values) for path, values in varied.items()}, rows


def _named(arms: Iterable[tuple[str, dict[str, Any]]]) -> Arms:
    """Arms by name. Raises UserError where two have the same."""
    found: Arms = {}
    for name, values in arms:
        if name in found:
            raise UserError(
                f"arms: {found[name]} and {values} are both called {name!r}; "
                "choose other short names."
            )
        found[name] = values
    return found


def _arm(factors: Factors, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    values = {path: factors[path][name] for path, name in zip(factors, names, strict=True)}
    return "_".join(name for name in names if name) or "base", values
