"""Claims put to invented results whose verdicts are known."""

import json

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import claims, reading, statistics, verdicts
from cnnjax.ablation.claims import (
    better,
    chance_level,
    diverges,
    equivalent,
    interaction,
    monotone,
)
from cnnjax.ablation.design import fractional
from cnnjax.report import statements

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
    assert (worse.verdict, better_.verdict, best.verdict) == (*["undecided"] * 2, "supported")
    assert worse.notes == (
        "A run that diverged, at the loss of chance, stands before one that finished.",
    )
    assert best.notes == ()


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
        assert finding.notes == ("Runs that diverged or ended without this figure: 1.",)
    assert accuracy.notes == ()
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
    assert "ahead in 4.5 of 6 seeds (3 ties, each counted half)" in partly


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
    assert finding.evidence.p < 0.001
    assert finding.evidence.scale_matters
    assert finding.verdict == "undecided"
    assert "log-odds disagree" in finding.notes[0]


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
    half = (population.high - population.low) / 2
    assert half == pytest.approx(1.96 * np.sqrt(0.1 * 0.9 / 400), rel=0.15)
