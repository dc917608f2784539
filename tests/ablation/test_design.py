"""Arms from factors: crossings, one at a time, fractions and what these cannot tell apart."""

import itertools

import pytest

from cnnjax.ablation import design
from cnnjax.errors import UserError

FIVE = {path: {"": 0, path.upper(): 1} for path in "abcde"}


def bits(arms):
    return [dict(arm) for arm in arms.values()]


def test_one_at_a_time():
    arms = design.one_at_a_time({"x": {"p": 1, "q": 2, "r": 3}, "y": {"": 0, "s": 1}})
    assert arms == {
        "p": {"x": 1, "y": 0}, "q": {"x": 2, "y": 0}, "r": {"x": 3, "y": 0},
        "p_s": {"x": 1, "y": 1},
    }  # fmt: skip


def test_a_half_of_five_factors_has_resolution_five():
    arms = design.fractional(FIVE, {"e": "abcd"})
    assert len(arms) == 16
    assert next(iter(arms)) == "base"
    assert set(arms) <= set(design.crossed(FIVE))
    words = design.defining_words(bits(arms))
    assert words == [tuple("abcde")]
    # Main effects are mixed up with four-factor interactions, pairs with triples (Box, Hunter and
    # Hunter, table 6.22: 2^(5-1), resolution V).
    assert design.aliases("a", words) == [tuple("bcde")]
    assert design.aliases("ab", words) == [tuple("cde")]


def test_a_quarter_of_five_factors_has_resolution_three():
    arms = design.fractional(FIVE, {"d": "ab", "e": "ac"})
    words = design.defining_words(bits(arms))
    assert words == [tuple("abd"), tuple("ace"), tuple("bcde")]
    assert design.aliases("a", words)[:2] == [tuple("bd"), tuple("ce")]


def test_a_full_crossing_has_no_aliases():
    assert design.defining_words(bits(design.crossed(FIVE))) == []


def test_describe_a_design():
    full = design.describe(
        bits(design.crossed({"x": {"p": 1, "q": 2, "r": 3}, "y": {"": 0, "s": 1}}))
    )
    assert full == "Full crossing of 2 factors (3 x 2)."
    half = design.describe(bits(design.fractional(FIVE, {"e": "abcd"})))
    assert half.startswith("A fraction 2^(5-1) of all combinations, of resolution V: what hangs")
    assert "a x b x c x d x e" in half
    quarter = design.describe(bits(design.fractional(FIVE, {"d": "ab", "e": "ac"})))
    assert quarter.startswith("A fraction 2^(5-2) of all combinations, of resolution III")
    assert design.describe(bits(design.one_at_a_time(FIVE))) == ""
    assert design.describe([{"x": 1}, {"x": 2}]) == ""
    assert design.describe([]) == ""


def test_main_effects_of_a_fraction_are_orthogonal():
    arms = bits(design.fractional(FIVE, {"e": "abcd"}))
    for first, second in itertools.combinations("abcde", 2):
        assert sum((2 * arm[first] - 1) * (2 * arm[second] - 1) for arm in arms) == 0
        assert sum(2 * arm[first] - 1 for arm in arms) == 0


@pytest.mark.parametrize(
    ("factors", "generators", "message"),
    [
        ({"a": {"": 0, "A": 1, "AA": 2}, "b": {"": 0, "B": 1}}, {"b": "a"}, "a: has 3 levels"),
        (FIVE, {"f": "ab"}, "factor: unknown 'f'"),
        (FIVE, {"e": "ax"}, "factor: unknown 'x'"),
        (FIVE, {"e": "ad", "d": "ab"}, "e: is decided by a, d"),
        (FIVE, {"e": ""}, "e: is decided by nothing"),
    ],
)
def test_generators_that_make_no_fraction_are_refused(factors, generators, message):
    with pytest.raises(UserError, match=message):
        design.fractional(factors, generators)
