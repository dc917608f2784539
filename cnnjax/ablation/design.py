"""Arms from factors: all combinations, one factor at a time, a fraction of all. No jax.

A factor is a dotted path with its levels, `{short name: value}`. An arm is named by the short names
of its levels joined with `_`; empty short names are left out, and an arm with no name is `base`.
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
    return _arms(factors, itertools.product(*factors.values()))


def one_at_a_time(factors: Factors) -> Arms:
    """The first level of every factor, then each other level alone. Cheap, but it cannot show
    interactions; `crossed` and `fractional` can."""
    first = [next(iter(levels)) for levels in factors.values()]
    combinations = [first] + [
        [*first[:i], name, *first[i + 1 :]]
        for i, levels in enumerate(factors.values())
        for name in itertools.islice(levels, 1, None)
    ]
    return _arms(factors, combinations)


def fractional(factors: Factors, generators: Mapping[str, Sequence[str]]) -> Arms:
    """The fraction 2^(k-p) of the crossing of k factors of two levels.

    Args:
      factors: the k factors.
      generators: p of the factors, each with the other factors that decide it: it has its second
        level if an odd number of them have theirs. The arm of all first levels is included.

    Raises UserError for factors without two levels, and for generators that are not factors or
    depend on one another.

    Example: a half of 2^5 in which main effects are aliased with nothing shorter than a four-factor
    interaction (resolution V): `fractional(five, {"e": ("a", "b", "c", "d")})`.
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
    combinations = []
    for bits in itertools.product((0, 1), repeat=len(free)):
        level = dict(zip(free, bits, strict=True))
        level |= {
            path: sum(level[each] for each in deciding) % 2 for path, deciding in generators.items()
        }
        combinations.append([list(factors[path])[level[path]] for path in factors])
    return _arms(factors, combinations)


def in_blocks(
    blocks: Mapping[str, Mapping[str, Any]], arms: Mapping[str, Mapping[str, Any]]
) -> Arms:
    """Every arm in every block, named `block.arm`. The arm's overrides take precedence over the
    block's."""
    return {
        f"{block}.{arm}": {**shared, **overrides}
        for block, shared in blocks.items()
        for arm, overrides in arms.items()
    }


def defining_words(levels: Collection[Mapping[str, int]]) -> list[tuple[str, ...]]:
    """The defining words of a design: the sets of two-level factors whose levels have a sum that is
    odd in all arms, or even in all; shortest first.

    Args:
      levels: factor -> 0 (first level) or 1, for each arm.

    The length of the shortest is the resolution of the design (III, IV, V ...); a full crossing has
    none. The effect of a set of factors is aliased with that of its symmetric difference with any
    word.
    """
    factors = list(next(iter(levels), {}))
    return [
        word
        for size in range(1, len(factors) + 1)
        for word in itertools.combinations(factors, size)
        if len({sum(arm[factor] for factor in word) % 2 for arm in levels}) == 1
    ]


def aliases(effect: Collection[str], words: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The effects that are aliased with `effect` in a design with these defining words."""
    differences = [tuple(sorted(set(effect) ^ set(word))) for word in words]
    return sorted((alias for alias in differences if alias), key=len)


def describe(levels: Collection[Mapping[str, Any]]) -> str:
    """A crossed or fractional design in a sentence, from the values of the factors in each arm; ""
    for other designs."""
    num_levels, rows = _level_indices(levels)
    if len(num_levels) < 2 or len(set(rows)) < len(rows):
        return ""
    if len(rows) == math.prod(num_levels.values()):
        sizes = " x ".join(map(str, num_levels.values()))
        return f"Full crossing of {len(num_levels)} factors ({sizes})."
    words = fraction(levels)
    if not words:
        return ""
    resolution, num_generators = len(words[0]), (len(words) + 1).bit_length() - 1
    numeral = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII"}.get(resolution, str(resolution))
    return (
        f"A fraction 2^({len(num_levels)}-{num_generators}) of all combinations, of resolution "
        f"{numeral}: what hangs together is {effect_names(words)}, so a main effect is mixed up "
        f"with nothing shorter than an interaction of {resolution - 1} factors."
    )


def fraction(levels: Collection[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The defining words of a fraction 2^(k-p), from the values of the factors in each arm; none
    for any other design."""
    num_levels, rows = _level_indices(levels)
    full = math.prod(num_levels.values())
    if set(num_levels.values()) != {2} or len(set(rows)) < len(rows) or len(rows) == full:
        return []
    words = defining_words([dict(zip(num_levels, row, strict=True)) for row in rows])
    return words if words and len(rows) * (len(words) + 1) == full else []


def effect_names(effects: Collection[tuple[str, ...]]) -> str:
    """Effects as text: each as the last parts of its factors' paths."""
    return "; ".join(" x ".join(path.rpartition(".")[2] for path in effect) for effect in effects)


def _level_indices(
    levels: Collection[Mapping[str, Any]],
) -> tuple[dict[str, int], list[tuple[int, ...]]]:
    """The number of levels of each factor that varies, and each arm's level indices."""
    paths = list(next(iter(levels), {}))
    distinct = {path: list(dict.fromkeys(repr(arm[path]) for arm in levels)) for path in paths}
    varied = {path: values for path, values in distinct.items() if len(values) > 1}
    rows = [
        tuple(values.index(repr(arm[path])) for path, values in varied.items()) for arm in levels
    ]
    return {path: len(values) for path, values in varied.items()}, rows


def _arms(factors: Factors, combinations: Iterable[Sequence[str]]) -> Arms:
    """The arms by name, each from the short names of its levels. Raises UserError if two have the
    same name."""
    by_name: Arms = {}
    for names in combinations:
        values = {path: factors[path][name] for path, name in zip(factors, names, strict=True)}
        name = "_".join(name for name in names if name) or "base"
        if name in by_name:
            raise UserError(
                f"arms: {by_name[name]} and {values} are both called {name!r}; "
                "choose other short names."
            )
        by_name[name] = values
    return by_name
