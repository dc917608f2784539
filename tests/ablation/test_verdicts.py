"""Claims put to invented results whose verdicts are known."""

import dataclasses
import json

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import claims, evidence, reading, statistics, verdicts
from cnnjax.ablation.claims import (
    better,
    chance_level,
    diverges,
    equivalent,
    interaction,
    monotone,
)
from cnnjax.ablation.design import fractional
from cnnjax.ablation.outcomes import Outcomes
from cnnjax.ablation.sides import Sides
from cnnjax.report import statements, words

FACTORS = ("model.activation", "model.norm.kind")


def study(tmp_path, arms, *stated, late=(), overrides=None, factors=FACTORS[:1]):
    """A study in which each arm has these test accuracies by seed; None: the run diverged."""
    seeds = len(next(iter(arms.values())))
    workdirs.make(tmp_path, dict.fromkeys(arms, 0.5), seeds, overrides=overrides, factors=factors)
    for arm, values in arms.items():
        for seed, value in enumerate(values):
            if value is None:
                changes = {"status": "diverged", "test": None, "diverged_at_step": 3}
            else:
                changes = {"test": {"accuracy": value, "loss": 1 - value, "examples": 1000}}
            workdirs.edit(tmp_path, arm, seed, **changes)
    path = tmp_path / "study.json"
    kept = [claims.write(c) | {"post_hoc": c in late} for c in (*stated, *late)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"claims": kept}))
    return reading.load(tmp_path, "test")


def found(*args, **kwargs):
    return verdicts.findings(study(*args, **kwargs))


AHEAD = "A run that diverged, at chance, is ahead of one that finished, which shows nothing."
LUCK = np.array([0.004, -0.002, 0.001, -0.003, 0.0, 0.002])
RELU, TANH = 0.90 + LUCK, 0.87 + LUCK + 0.001 * np.array([1, -1, 0, 1, -1, 0])


def test_better_is_supported_contradicted_or_undecided(tmp_path):
    arms = {"tanh": TANH, "relu": RELU}
    stated = [better("relu", "tanh", by=by) for by in (0, 2, 3, 4)]
    results = found(tmp_path, arms, *stated)
    assert [f.verdict for f in results] == ["supported", "supported", "undecided", "contradicted"]
    differences = [float(d) for d in RELU - TANH]
    comparison = results[0].evidence.comparisons[0]
    assert comparison.paired.differences == pytest.approx(differences)
    assert (comparison.ahead.count, comparison.ahead.n) == (6, 6)
    raw = [statistics.p_above(differences, by / 100) for by in (0, 2, 3, 4)]
    assert [f.evidence.p for f in results] == pytest.approx(raw)
    assert [f.corrected for f in results] == pytest.approx(statistics.holm(raw))


def test_equivalent(tmp_path):
    arms = {"tanh": TANH, "relu": RELU, "elu": RELU + 0.001 * LUCK / abs(LUCK).max()}
    stated = [
        equivalent("relu", "elu", within=0.5, reason="r"),
        equivalent("relu", "tanh", within=0.5, reason="r"),
        equivalent("relu", "tanh", within=3, reason="r"),
    ]
    assert [f.verdict for f in found(tmp_path, arms, *stated)] == [
        "supported", "contradicted", "undecided",
    ]  # fmt: skip


def test_lower_loss_is_better(tmp_path):
    (finding,) = found(
        tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh", metric="loss")
    )
    assert finding.verdict == "supported"
    assert finding.evidence.comparisons[0].paired.mean > 0


def test_monotone_needs_every_step_and_falls_with_one(tmp_path):
    arms = {"a": TANH, "b": RELU, "c": RELU + 0.03 + 0.1 * LUCK}
    steps = [monotone(["a", "b", "c"]), monotone(["a", "c", "b"]), monotone(["a", "b"], by=3)]
    results = found(tmp_path, arms, *steps)
    assert [f.verdict for f in results] == ["supported", "contradicted", "undecided"]
    assert len(results[0].evidence.comparisons) == 2


def test_a_diverged_run_scores_chance(tmp_path):
    relu = [None, *RELU[1:]]
    (finding,) = found(tmp_path, {"tanh": TANH, "relu": relu}, better("relu", "tanh"))
    comparison = finding.evidence.comparisons[0]
    assert comparison.paired.differences[0] == pytest.approx(0.1 - TANH[0])
    assert comparison.finished.n == 5
    assert comparison.finished.mean == pytest.approx(float(np.mean((RELU - TANH)[1:])))
    assert finding.verdict == "undecided"
    assert finding.notes == ("Diverged: relu 1 of 6.",)


def test_a_diverged_run_never_wins_a_claim_on_loss(tmp_path):
    """Its loss is that of chance, the entropy of the classes: log 10 here. A run that finished can
    be worse, and nothing follows from that."""
    stated = [
        better("diverged", "slow", metric="loss", by=0.1),
        better("slow", "diverged", metric="loss"),
        better("good", "diverged", metric="loss", by=1),
    ]
    arms = {"diverged": [None] * 6, "slow": list(0.15 + LUCK), "good": list(0.9 + LUCK)}
    study(tmp_path, arms, *stated)
    for seed in range(6):
        test = {"accuracy": 0.15, "loss": 2.6 + LUCK[seed], "examples": 1000}
        workdirs.edit(tmp_path, "slow", seed, test=test)
    worse, better_, best = verdicts.findings(reading.load(tmp_path, "test"))
    assert worse.evidence.comparisons[0].paired.mean == pytest.approx(2.6 - np.log(10), abs=0.001)
    assert worse.evidence.p < 1e-4
    verdict = [finding.verdict for finding in (worse, better_, best)]
    assert verdict == ["undecided", "undecided", "supported"]
    assert worse.notes == (AHEAD, "Diverged: diverged 6 of 6.")
    assert best.notes == ("Diverged: diverged 6 of 6.",)


def test_a_diverged_run_is_not_ahead_of_a_dead_one(tmp_path):
    """Chance is 10 % here; a network that finished dead can be below it."""
    arms = {"hot": [None] * 6, "dead": list(0.07 + LUCK), "good": list(0.9 + LUCK)}
    stated = [
        better("hot", "dead"),
        better("dead", "hot"),
        equivalent("hot", "dead", within=5, reason="r"),
        equivalent("hot", "good", within=5, reason="r"),
        better("good", "hot", by=70),
        monotone(["hot", "dead"]),
        monotone(["dead", "hot", "good"]),
    ]
    results = found(tmp_path, arms, *stated)
    assert all(f.evidence.p < 0.001 for f in (results[0], results[2], results[6]))
    assert [f.verdict for f in results] == [
        "undecided", "undecided", "undecided", "contradicted", "supported", "undecided",
        "undecided",
    ]  # fmt: skip
    assert results[0].notes == (AHEAD, "Diverged: hot 6 of 6.")
    assert results[2].notes[0].startswith("Runs that diverged are not shown to be alike")


def test_arms_that_always_diverge_are_not_shown_to_be_equivalent(tmp_path):
    arms = {"a": [None] * 8, "b": [None] * 8}
    (finding,) = found(tmp_path, arms, equivalent("a", "b", within=1, reason="r"))
    assert finding.evidence.p < 0.01
    assert finding.verdict == "undecided"


def cells(tmp_path, means, *stated):
    """Four arms of two factors, f1 to f2 at g1 and then at g2; None: all runs diverge."""
    factors = ("model.norm.kind", "model.activation")
    pairs = [(f, g) for g in ("relu", "tanh") for f in ("none", "batch")]
    overrides = {f"{f}_{g}": {factors[0]: f, factors[1]: g} for f, g in pairs}
    noise = np.random.default_rng(9).normal(0, 0.001, (4, 6))
    arms = {
        name: [None] * 6 if mean is None else list(mean + own)
        for name, mean, own in zip(overrides, means, noise, strict=True)
    }
    return found(tmp_path, arms, *stated, overrides=overrides, factors=factors)


F, G = {"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "tanh")}


@pytest.mark.parametrize("means", [[0.9, 0.05, 0.9, None], [0.9, 0.9, 0.05, None]])
def test_a_diverged_run_wins_no_interaction(tmp_path, means):
    """Whichever way the factors are read: dead is worse than diverged, and says nothing."""
    stated = [interaction(F, G, direction="positive"), interaction(F, G), interaction(G, F)]
    stated += [interaction(F, G, direction="negative")]
    results = cells(tmp_path, means, *stated)
    assert [f.verdict for f in results] == ["undecided"] * 4
    assert AHEAD in results[0].notes


def test_that_all_diverge_decides_nothing_about_how_alike_they_are(tmp_path):
    stated = [
        interaction(F, G, by=5),
        interaction(F, G, direction="positive", by=5),
        better("batch_relu", "none_relu", by=1),
        monotone(["none_relu", "batch_relu"], by=1),
    ]
    for means in ([None] * 4, [0.9, None, 0.9, None]):
        results = cells(tmp_path / str(means[0]), means, *stated)
        assert [f.verdict for f in results[:2]] == ["undecided"] * 2
        verdict = "undecided" if means[0] is None else "contradicted"
        assert [f.verdict for f in results[2:]] == [verdict] * 2


def test_what_is_refuted_without_a_margin_is_refuted_with_one(tmp_path):
    """Though both arms diverged in one seed, and though another step is flattered."""
    a, b = [None, *(0.5 + LUCK[1:])], [None, *(0.9 + LUCK[1:] / 2)]
    stated = [better("a", "b", by=by) for by in (0, 1)]
    stated += [monotone(["a", "b"][::-1], by=by) for by in (0, 1)]
    results = found(tmp_path / "pairs", {"a": a, "b": b}, *stated)
    assert [f.verdict for f in results] == ["contradicted"] * 4
    arms = {"hot": [None] * 6, "dead": list(0.05 + LUCK), "good": list(0.9 + LUCK)}
    arms["bad"] = list(0.5 - LUCK)
    orders = ["dead", "hot", "good", "bad"], ["hot", "dead", "good", "bad"]
    results = found(tmp_path / "steps", arms, *map(monotone, orders))
    assert [f.verdict for f in results] == ["contradicted"] * 2


def test_a_margin_does_not_let_a_diverged_run_win(tmp_path):
    arms = {"hot": [None] * 6, "dead": list(0.05 + LUCK), "good": list(0.9 + LUCK)}
    stated = [better("dead", "hot", by=1), monotone(["hot", "dead", "good"], by=1)]
    results = found(tmp_path, arms, *stated)
    assert all(f.evidence.against < 0.001 for f in results)
    assert [f.verdict for f in results] == ["undecided"] * 2


def test_two_cells_that_diverge_are_no_interaction(tmp_path):
    """From 90 % and from 50 % to the same chance: a floor, whatever the scale."""
    stated = [interaction(F, G, direction="positive"), interaction(F, G)]
    results = cells(tmp_path, [0.9, None, 0.5, None], *stated)
    assert all(f.evidence.p < 0.001 for f in results)
    assert [f.verdict for f in results] == ["undecided"] * 2
    assert results[0].notes[0].startswith("Runs that diverged are not shown to be alike")


def test_one_like_a_diverged_arm_is_not_refuted_by_that(tmp_path):
    arms = {"a": list(0.105 + LUCK / 10), "b": [None] * 6}
    (finding,) = found(tmp_path, arms, better("a", "b", by=5))
    assert finding.verdict == "undecided"


def test_where_only_the_number_of_claims_is_in_the_way_it_says_so(tmp_path):
    """Both scales agree, and after correction neither shows it: power is told, and no ceiling."""
    noise = [0.02, -0.02, 0.012, -0.008, 0.0, 0.004]
    overrides = {
        name: dict(zip(FACTORS, name.split("_"), strict=True))
        for name in ("relu_none", "relu_batch", "sigmoid_none", "sigmoid_batch")
    }
    arms = {name: list(0.5 + LUCK) for name in overrides}
    arms["sigmoid_batch"] = list(0.5 + LUCK + 0.015 + np.array(noise))
    gain = interaction(*GAIN, direction="positive")
    others = [better("relu_none", "relu_batch", by=by) for by in range(8)]
    finding, *_ = found(tmp_path, arms, gain, *others, overrides=overrides, factors=FACTORS)
    assert max(finding.evidence.on_accuracy[0], finding.evidence.p) < 0.1 < finding.corrected
    assert (finding.verdict, finding.scale_matters, finding.notes) == ("undecided", False, ())
    assert "6 seeds find" in statements.sentence(finding, 9)


def test_a_margin_of_points_is_refuted_in_points(tmp_path):
    """Far from a ceiling, and on both scales in the direction that was claimed."""
    (finding,) = cells(
        tmp_path, [0.50, 0.52, 0.50, 0.53], interaction(F, G, direction="positive", by=5)
    )
    assert finding.evidence.log_odds.mean > 0
    assert (finding.verdict, finding.notes) == ("contradicted", ())


def test_as_far_as_the_margin_is_not_beyond_it(tmp_path):
    """90, 81, ... % less 89, 80, ... % is 1 point in every seed, but for rounding."""
    high = [0.90, 0.81, 0.77, 0.64, 0.58, 0.93, 0.66, 0.71]
    arms = {"a": high, "b": [value - 0.01 for value in high]}
    stated = [better("a", "b", by=1), equivalent("a", "b", within=1, reason="r"), better("a", "b")]
    results = found(tmp_path, arms, *stated)
    assert [f.verdict for f in results] == ["undecided", "undecided", "supported"]


def test_rounding_noise_is_no_difference(tmp_path):
    """The means of the same three accuracies, added up in another order."""
    overrides = {
        f"{kind}_{number}": {"model.norm.kind": kind, "optimizer.name": str(number)}
        for kind in ("none", "batch")
        for number in range(3)
    }
    values, orders = (0.91, 0.87, 0.77), {"none": (0, 1, 2), "batch": (2, 0, 1)}
    arms = {
        name: [values[orders[own["model.norm.kind"]][int(own["optimizer.name"])]]] * 6
        for name, own in overrides.items()
    }
    assert np.mean([0.91, 0.87, 0.77]) != np.mean([0.77, 0.91, 0.87])
    claim = better({"model.norm.kind": "batch"}, {"model.norm.kind": "none"})
    factors = ("model.norm.kind", "optimizer.name")
    (finding,) = found(tmp_path, arms, claim, overrides=overrides, factors=factors)
    assert finding.evidence.comparisons[0].differences == (0.0,) * 6
    assert finding.evidence.comparisons[0].ahead.count == 3


def test_a_diverged_run_without_a_figure_is_not_passed_over(tmp_path):
    """Of probes, and of losses in results that do not say what chance is."""
    known = study(tmp_path, {"tanh": TANH, "relu": [None, *RELU[1:]]})
    old = {"validation": 0.1, "test": 0.1}
    for run in known.runs:
        measures = {} if (run.arm, run.seed) == ("relu", 0) else {"test": {"shift": RELU[run.seed]}}
        workdirs.edit(tmp_path, run.arm, run.seed, chance=old, measures=measures)
    stated = [
        better("relu", "tanh", metric="loss"),
        better("relu", "tanh", metric="measures.shift"),
        better("relu", "tanh"),
    ]
    path = tmp_path / "study.json"
    about = json.loads(path.read_text()) | {"claims": [claims.write(c) for c in stated]}
    path.write_text(json.dumps(about))
    loss, measure, accuracy = verdicts.findings(reading.load(tmp_path, "test"))
    for finding in (loss, measure):
        assert finding.verdict == "undecided"
        assert finding.notes[0] == "Runs that diverged or ended without this figure: 1."
    assert accuracy.notes == ("Diverged: relu 1 of 6.",)
    assert accuracy.evidence.comparisons[0].paired.n == 6


def test_runs_without_a_figure_leave_the_verdict_open(tmp_path):
    study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    workdirs.edit(tmp_path, "relu", 0, status="failed", test=None)
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.verdict == "open"
    assert "1 failed" in finding.notes[0]
    assert finding.corrected == 1.0


def test_shares_of_runs(tmp_path):
    arms = {"a": [None] * 6, "b": [0.1, 0.11, None, 0.09, 0.1, None], "c": list(RELU)}
    stated = [diverges("a"), chance_level("b"), diverges("c"), chance_level("c"), diverges("b")]
    results = found(tmp_path, arms, *stated)
    assert [f.evidence.share.count for f in results] == [6, 6, 0, 0, 2]
    assert [f.evidence.p for f in results][:2] == pytest.approx([2**-6, 2**-6])
    # Each alone would be below 0.05; five together are not (Holm: 5 * 2^-6 = 0.078).
    assert {f.verdict for f in results} == {"undecided"}
    alone = found(tmp_path / "alone", arms, diverges("a"))
    assert alone[0].verdict == "supported"


def test_runs_that_failed_are_no_runs_that_did_not(tmp_path):
    stated = [diverges("a"), chance_level("a"), chance_level("b")]
    study(tmp_path, {"a": [None, *RELU[1:]], "b": list(RELU)}, *stated)
    for seed in range(4):
        workdirs.edit(tmp_path, "a", 5 - seed, status="failed", test=None)
    for seed in range(6):
        workdirs.edit(tmp_path, "b", seed, status="failed", test=None)
    results = verdicts.findings(reading.load(tmp_path, "test"))
    assert [f.verdict for f in results] == ["open"] * 3
    shares = [f.evidence.share for f in results]
    assert [(share.count, share.n) for share in shares] == [(1, 2), (1, 2), (0, 0)]
    assert (shares[2].low, shares[2].high) == (0.0, 1.0)
    assert "0 of 0 runs did, corrected" in statements.figures(results[2])


def test_a_run_of_which_chance_is_not_known_is_not_counted(tmp_path):
    study(tmp_path, {"a": [0.1] * 6}, chance_level("a"))
    workdirs.edit(tmp_path, "a", 0, chance={})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert (finding.evidence.share.count, finding.evidence.share.n) == (5, 5)
    assert finding.verdict == "undecided"
    assert "without this figure: 1" in finding.notes[0]


def test_equal_arms_are_equal_in_words(tmp_path):
    arms = {"a": list(RELU), "b": list(RELU), "c": [*RELU[:3], *TANH[3:]]}
    stated = [better("a", "b"), better("a", "c")]
    equal, partly = map(statements.figures, found(tmp_path, arms, *stated))
    assert equal.startswith("a and b are equal in each of 6 seeds; ")
    assert "ahead in 4.5 of 6 seeds (3 ties counted half)" in partly


def crossing(tmp_path, means, *stated):
    names = ["relu_none", "relu_batch", "sigmoid_none", "sigmoid_batch"]
    overrides = {name: dict(zip(FACTORS, name.split("_"), strict=True)) for name in names}
    noise = np.random.default_rng(7).normal(0, 0.001, (4, 6))
    arms = {
        name: list(mean + LUCK + own) for name, mean, own in zip(names, means, noise, strict=True)
    }
    return found(tmp_path, arms, *stated, overrides=overrides, factors=FACTORS)


GAIN = ({"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "sigmoid")})


def test_an_interaction_and_the_main_effects(tmp_path):
    batch, none = ({"model.norm.kind": kind} for kind in ("batch", "none"))
    results = crossing(
        tmp_path,
        [0.90, 0.91, 0.50, 0.89],
        interaction(*GAIN, direction="positive", by=20),
        interaction(*GAIN, direction="negative"),
        interaction(*GAIN),
        better(batch, none, by=10),
    )
    assert [f.verdict for f in results] == ["supported", "contradicted", "supported", "supported"]
    contrast = results[0].evidence.comparisons[0].paired
    assert contrast.mean == pytest.approx(0.39 - 0.01, abs=0.002)
    assert results[3].evidence.comparisons[0].paired.mean == pytest.approx(0.20, abs=0.002)


def test_a_ceiling_is_no_interaction(tmp_path):
    """From 50 to 80 % and from 94.1 to 98.5 % are the same step in log-odds (1.39)."""
    (finding,) = crossing(
        tmp_path, [0.9412, 0.9846, 0.50, 0.80], interaction(*GAIN, direction="positive")
    )
    comparison = finding.evidence.comparisons[0]
    assert statistics.p_above(comparison.differences, 0) < 0.001 < 0.05 < finding.evidence.p
    assert finding.scale_matters
    assert finding.verdict == "undecided"
    assert "Log-odds do not show what accuracy does" in finding.notes[0]


def test_both_scales_of_an_interaction_are_corrected(tmp_path):
    """The larger p counts, or eight claims together would be supported too often."""
    stated = [interaction(*GAIN, direction="positive"), interaction(*GAIN)]
    means = [0.90, 0.9105, 0.50, 0.53]
    one_sided, two_sided = crossing(tmp_path, means, *stated)
    accuracy = one_sided.evidence.comparisons[0].differences
    log_odds = one_sided.evidence.log_odds.differences
    ps = [statistics.p_above(each, 0) for each in (accuracy, log_odds)]
    assert ps[0] < 0.01 < ps[1]
    assert one_sided.evidence.p == ps[1]
    lower = [statistics.p_below(each, 0) for each in (accuracy, log_odds)]
    assert one_sided.evidence.against == max(lower)
    different = [statistics.p_different(each, 0) for each in (accuracy, log_odds)]
    assert two_sided.evidence.p in (max(different), 1.0)


def test_a_ceiling_is_one_for_what_probes_measure_too(tmp_path):
    """Shares of examples on moved images, say; a gain is none."""
    crossing(tmp_path, [0.9412, 0.9846, 0.50, 0.80])
    known = reading.load(tmp_path, "test")
    for run in known.runs:
        value = run.metrics["test_accuracy"]
        found_ = {"shift_1": value, "monte_carlo_gain": value}
        workdirs.edit(tmp_path, run.arm, run.seed, measures={"test": found_})
    stated = [interaction(*GAIN, direction="positive", metric=f"measures.{name}")
              for name in ("shift_1", "monte_carlo_gain")]  # fmt: skip
    path = tmp_path / "study.json"
    about = json.loads(path.read_text()) | {"claims": [claims.write(c) for c in stated]}
    path.write_text(json.dumps(about))
    shift, gain = verdicts.findings(reading.load(tmp_path, "test"))
    assert (shift.verdict, shift.scale_matters) == ("undecided", True)
    assert (gain.verdict, gain.evidence.log_odds) == ("supported", None)


def test_what_a_fraction_cannot_tell_apart_is_said_of_the_claim(tmp_path):
    factors = {path: {"": 0, path: 1} for path in "abc"}
    overrides = fractional(factors, {"c": "ab"})
    arms = {name: list(0.8 + LUCK) for name in overrides}
    claim = better({"c": 1}, {"c": 0})
    (finding,) = found(tmp_path, arms, claim, overrides=overrides, factors=tuple("abc"))
    assert finding.notes == ("This design cannot tell it from a x b.",)


def test_claims_made_late_change_nothing_for_the_others(tmp_path):
    arms = {"tanh": TANH, "relu": RELU, "elu": RELU + 0.1 * LUCK}
    stated = [better("relu", "tanh", by=2), equivalent("relu", "elu", within=0.5, reason="r")]
    before = found(tmp_path / "before", arms, *stated)
    late = [better("elu", "relu", by=by / 10) for by in range(8)]
    after = found(tmp_path / "after", arms, *stated, late=late)
    assert [f.corrected for f in after[:2]] == [f.corrected for f in before]
    assert [f.post_hoc for f in after] == [False] * 2 + [True] * 8


def extended(tmp_path, arms, planned, *stated):
    """A study in which the arms that are not planned were added after results were there."""
    study(tmp_path, arms, *stated)
    path = tmp_path / "study.json"
    about = json.loads(path.read_text())
    for own in about["arms"].values():
        own["defined"] = "as it is"
    first = about["extensions"][0] | {"arms": [], "after_results": False}
    first["planned"] = dict.fromkeys(planned, "as it is")
    later = first | {"planned": dict.fromkeys(arms, "as it is"), "after_results": True}
    path.write_text(json.dumps(about | {"extensions": [first, later]}))
    return verdicts.findings(reading.load(tmp_path, "test"))


def test_arms_thought_of_later_are_no_part_of_a_claim(tmp_path):
    """Neither side of it can be changed by looking, and its p stays as it was."""
    arms = {"l.relu": RELU, "l.tanh": TANH}
    claim = better({"model.activation": "relu"}, {"model.activation": "tanh"})
    (before,) = found(tmp_path / "before", arms, claim)
    later = {"l.relu2": list(RELU - 0.3), "r.relu": TANH, "r.tanh": TANH - LUCK * 0.1}
    overrides = {"l.relu2": {"model.activation": "relu"}}
    workdir = tmp_path / "after"
    extended(workdir, arms | later, list(arms), claim)
    about = json.loads((workdir / "study.json").read_text())
    about["arms"]["l.relu2"]["levels"] = overrides["l.relu2"]
    (workdir / "study.json").write_text(json.dumps(about))
    old, new = verdicts.findings(reading.load(workdir, "test"))
    assert (old.block, old.post_hoc, old.corrected) == ("l", False, before.corrected)
    assert old.evidence.comparisons[0].differences == before.evidence.comparisons[0].differences
    assert old.notes == ("Left out, as added after results were there: l.relu2.",)
    assert (new.block, new.post_hoc) == ("r", True)


def test_arms_that_were_planned_may_be_run_later(tmp_path):
    """One arm after another, as a cluster may: only what no file had is late."""
    (finding,) = extended(
        tmp_path, {"relu": RELU, "tanh": TANH}, ["relu", "tanh"], better("relu", "tanh")
    )
    assert not finding.post_hoc


def test_runs_of_several_arms_are_not_counted_together(tmp_path):
    arms = {"l.relu": [None] * 6, "l.tanh": [None] * 6}
    known = study(tmp_path, arms)
    claim = {"kind": "diverges", "sides": [{"training.epochs": 5}]}
    about = dict(known.about) | {"claims": [claim], "factors": ["training.epochs"]}
    (tmp_path / "study.json").write_text(json.dumps(about))
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.evidence.p < 0.001
    assert finding.verdict == "undecided"
    assert "share their seeds" in finding.notes[0]


def test_blocks_are_judged_apart(tmp_path):
    arms = {"l.tanh": TANH, "l.relu": RELU, "r.tanh": RELU, "r.relu": TANH}
    results = found(tmp_path, arms, better("relu", "tanh"))
    assert [(f.block, f.verdict) for f in results] == [("l", "supported"), ("r", "contradicted")]


def test_runs_made_differently_are_flagged(tmp_path):
    study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    for arm, backend in (("tanh", "cpu"), ("relu", "gpu")):
        for seed in range(6):
            workdirs.edit(tmp_path, arm, seed, runtime={"backend": backend, "threads": 1})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.notes == ("Runs differ in backend: cpu, gpu.",)


def test_other_images_widen_the_interval(tmp_path):
    """Outcomes of 400 images of which the same ones are hard for both arms in all seeds."""
    known = study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    random = np.random.default_rng(8)
    differs = random.random(400) < 0.1
    for run in known.runs:
        right = np.where(differs, run.arm == "relu", True) ^ (random.random(400) < 0.01)
        logits = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
        path = tmp_path / run.place / "predictions_test.npz"
        np.savez(path, ids=np.arange(400), labels=np.zeros(400, int), logits=logits)
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    population = finding.evidence.comparisons[0].population
    assert population.mean == pytest.approx(differs.mean(), abs=0.01)
    # The images' part dominates: about 1.96 sd(d) / sqrt(400), sd(d) about 0.3.
    behind = dataclasses.replace(
        finding,
        claim=better("tanh", "relu"),
        evidence=evidence.of(
            better("tanh", "relu"),
            Sides(
                ("tanh", "relu"),
                [[arm] for arm in reading.load(tmp_path, "test").arms],
                Outcomes(tmp_path, "test"),
                "test",
                "accuracy",
            ),
        ),
    )
    ends = [words.scaled(end) for end in (population.low, population.high)]
    for said in (finding, behind):  # behind by as much as the other is ahead
        assert f"; for other images too: [{', '.join(ends)}]" in statements.figures(said)
    (tmp_path / "relu/seed-3/predictions_test.npz").write_bytes(b"torn")
    (torn,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert torn.evidence.comparisons[0].population is None
    assert torn.notes == ("On other images nothing is known: no predictions of relu/seed-3.",)
    half = (population.high - population.low) / 2
    assert half == pytest.approx(1.96 * np.sqrt(0.1 * 0.9 / 400), rel=0.15)
