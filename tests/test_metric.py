"""Metrics: which names there are, and what is said of them."""

import math

import pytest

from cnnjax import metric
from cnnjax.analysis import probes
from cnnjax.errors import UserError
from cnnjax.metric import ACCURACY, LOSS, find


def test_metrics_of_the_task_and_unknown_names():
    assert find("accuracy") is ACCURACY
    assert find("loss") is LOSS
    mine = (metric.Metric("ink", "pixels", higher_is_better=False),)
    assert find("ink", mine).unit == "pixels"
    with pytest.raises(UserError, match="unknown 'ink'"):
        find("ink")


SD = "sd of activations"
FIRST_OVER_LAST = "gradient over weights of the first layer over that of the last"


@pytest.mark.parametrize(
    ("name", "unit", "sign", "kind", "title"),
    [
        ("measures.shift_1", "%", 1, "share", "shift 1"),
        ("measures.monte_carlo_gain", "%", 1, "mean", "monte carlo gain"),
        ("seconds", "s", -1, "run", "seconds"),
        ("train_images_per_second", "images/s", 1, "run", "images per second"),
        ("parameters", "", -1, "fixed", "parameters"),
        ("multiply_adds", "", -1, "fixed", "multiply-adds"),
        ("steps_to(0.9)", "steps", -1, "run", "steps to 90 % validation accuracy"),
        ("signals.twins.largest", "%", -1, "run", "largest share of units alike of a layer"),
        ("signals.sd.last", "", 1, "run", "sd of activations in the last layer"),
        ("signals.start.sd.last", "", 1, "run", f"{SD} in the last layer before training"),
        ("signals.gradient.first_over_last", "decades", 1, "run", FIRST_OVER_LAST),
    ],
)
def test_units_directions_kinds_and_titles(name, unit, sign, kind, title):
    matched = find(name)
    assert (matched.unit, matched.sign, matched.kind, matched.title) == (unit, sign, kind, title)
    assert matched.on_split == (kind in ("share", "mean"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acuracy", "metric: unknown 'acuracy'. Did you mean 'accuracy'?"),
        ("second", "Did you mean 'seconds'?"),
        ("signals.gradiant.mean", "metric: signals: unknown 'gradiant'. Did you mean 'gradient'?"),
        ("signals.dead.median", "metric: signals.dead: unknown 'median'. Did you mean 'mean'?"),
        ("signals.dead.first_over_last", "may be 0; allowed: of gradient, sd"),
        ("signals.mean.first_over_last", "may be 0; allowed: of gradient, sd"),
        ("steps_to(90)", "'steps_to(90)': 90 is no accuracy; allowed: 0 to 1"),
        ("steps_to(much)", "unknown 'steps_to(much)'. Did you mean 'steps_to(0.9)'?"),
        ("steps_to(1.2.3)", "1.2.3 is no accuracy"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, says):
    with pytest.raises(UserError) as error:
        find(name)
    assert says in str(error.value)


def test_required_probe():
    assert metric.required_probe("accuracy") is metric.required_probe("seconds") is None
    assert metric.required_probe("measures.monte_carlo") == "mc_dropout"
    assert metric.required_probe("signals.start.twins.largest") == "gradients"
    with pytest.raises(UserError, match=r"measures: unknown 'shift'. Did you mean 'shift_\d'"):
        metric.required_probe("measures.shift")


def test_signals_are_those_of_the_probes():
    """The names that probes give, read off their own docstrings."""
    for probe, names in metric.catalog.SIGNALS.items():
        assert all(f"`{name}`" in probes.SIGNALS[probe].__doc__ for name in names)
    assert set(metric.SIGNALS) == {n for names in metric.catalog.SIGNALS.values() for n in names}


def test_shares_are_shown_in_percent_and_their_differences_in_points():
    assert (ACCURACY.show(0.97333), ACCURACY.difference_unit) == ("97.33 %", "points")
    assert (LOSS.show(0.5), LOSS.difference_unit) == ("0.50 nats", "nats")
    assert find("parameters").show(61706) == "61,706"
    assert ACCURACY.difference_ends() == (-1, 1)
    assert ACCURACY.difference_ends(4) == (-2, 2)
    assert LOSS.difference_ends() == (-math.inf, math.inf)
