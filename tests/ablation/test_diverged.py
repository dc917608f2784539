"""Runs that diverged: they score chance, and that must not help any claim."""

import json

import numpy as np
import pytest
import workdirs
from claimed import GAIN, LUCK, RELU, TANH, crossed_findings, findings, study

from cnnjax.ablation import claims, reading, verdicts
from cnnjax.ablation.claims import (
    better,
    chance_level,
    diverges,
    equivalent,
    interaction,
    monotone,
)
from cnnjax.report import statements

AHEAD = "A run that diverged, at chance, is ahead of one that finished, which shows nothing."


def test_a_diverged_run_scores_chance(tmp_path):
    relu = [None, *RELU[1:]]
    (finding,) = findings(tmp_path, {"tanh": TANH, "relu": relu}, better("relu", "tanh"))
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


def test_a_diverged_run_does_not_beat_a_dead_network(tmp_path):
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
    results = findings(tmp_path, arms, *stated)
    assert all(f.evidence.p < 0.001 for f in (results[0], results[2], results[6]))
    assert [f.verdict for f in results] == [
        "undecided", "undecided", "undecided", "contradicted", "supported", "undecided",
        "undecided",
    ]  # fmt: skip
    assert results[0].notes == (AHEAD, "Diverged: hot 6 of 6.")
    assert results[2].notes[0].startswith("Runs that diverged are not shown to be alike")


def test_arms_that_always_diverge_are_not_shown_to_be_equivalent(tmp_path):
    arms = {"a": [None] * 8, "b": [None] * 8}
    (finding,) = findings(tmp_path, arms, equivalent("a", "b", within=1, reason="r"))
    assert finding.evidence.p < 0.01
    assert finding.verdict == "undecided"


@pytest.mark.parametrize("means", [[0.9, 0.05, 0.9, None], [0.9, 0.9, 0.05, None]])
def test_diverged_runs_do_not_support_an_interaction(tmp_path, means):
    """Whichever way the factors are read: dead is worse than diverged, and says nothing."""
    stated = [
        interaction(*GAIN, direction="positive"),
        interaction(*GAIN),
        interaction(*GAIN[::-1]),
    ]
    stated += [interaction(*GAIN, direction="negative")]
    results = crossed_findings(tmp_path, means, *stated)
    assert [f.verdict for f in results] == ["undecided"] * 4
    assert AHEAD in results[0].notes
    assert not any(f.scale_matters for f in results if f.evidence.p < 0.001)


def test_arms_that_all_diverge_are_not_shown_to_be_similar(tmp_path):
    stated = [
        interaction(*GAIN, by=5),
        interaction(*GAIN, direction="positive", by=5),
        better("relu_batch", "relu_none", by=1),
        monotone(["relu_none", "relu_batch"], by=1),
    ]
    for means in ([None] * 4, [0.9, None, 0.9, None]):
        results = crossed_findings(tmp_path / str(means[0]), means, *stated)
        assert [f.verdict for f in results[:2]] == ["undecided"] * 2
        verdict = "undecided" if means[0] is None else "contradicted"
        assert [f.verdict for f in results[2:]] == [verdict] * 2


def test_a_claim_refuted_without_a_margin_is_refuted_with_one(tmp_path):
    """Though both arms diverged in one seed, and though another step is flattered."""
    a, b = [None, *(0.5 + LUCK[1:])], [None, *(0.9 + LUCK[1:] / 2)]
    stated = [better("a", "b", by=by) for by in (0, 1)]
    stated += [monotone(["a", "b"][::-1], by=by) for by in (0, 1)]
    results = findings(tmp_path / "pairs", {"a": a, "b": b}, *stated)
    assert [f.verdict for f in results] == ["contradicted"] * 4
    arms = {"hot": [None] * 6, "dead": list(0.05 + LUCK), "good": list(0.9 + LUCK)}
    arms["bad"] = list(0.5 - LUCK)
    orders = ["dead", "hot", "good", "bad"], ["hot", "dead", "good", "bad"]
    results = findings(tmp_path / "steps", arms, *map(monotone, orders))
    assert [f.verdict for f in results] == ["contradicted"] * 2


def test_a_margin_does_not_let_a_diverged_run_win(tmp_path):
    arms = {"hot": [None] * 6, "dead": list(0.05 + LUCK), "good": list(0.9 + LUCK)}
    stated = [better("dead", "hot", by=1), monotone(["hot", "dead", "good"], by=1)]
    results = findings(tmp_path, arms, *stated)
    assert all(f.evidence.against < 0.001 for f in results)
    assert [f.verdict for f in results] == ["undecided"] * 2


def test_two_diverged_cells_are_no_interaction(tmp_path):
    """From 90 % and from 50 % to the same chance: a floor, whatever the scale."""
    stated = [interaction(*GAIN, direction="positive"), interaction(*GAIN)]
    results = crossed_findings(tmp_path, [0.9, None, 0.5, None], *stated)
    assert all(f.evidence.p < 0.001 for f in results)
    assert [f.verdict for f in results] == ["undecided"] * 2
    assert results[0].notes[0].startswith("Runs that diverged are not shown to be alike")


def test_an_arm_equal_to_a_diverged_one_is_not_refuted(tmp_path):
    arms = {"a": list(0.105 + LUCK / 10), "b": [None] * 6}
    (finding,) = findings(tmp_path, arms, better("a", "b", by=5))
    assert finding.verdict == "undecided"


def test_a_diverged_run_without_a_figure_is_noted(tmp_path):
    """Of probes, and of losses in results that do not say what chance is."""
    results = study(tmp_path, {"tanh": TANH, "relu": [None, *RELU[1:]]})
    old = {"validation": 0.1, "test": 0.1}
    for run in results.runs:
        measures = {} if (run.arm, run.seed) == ("relu", 0) else {"test": {"shift": RELU[run.seed]}}
        workdirs.edit(tmp_path, run.arm, run.seed, chance=old, measures=measures)
    stated = [
        better("relu", "tanh", metric="loss"),
        better("relu", "tanh", metric="measures.shift"),
        better("relu", "tanh"),
    ]
    path = tmp_path / "study.json"
    about = json.loads(path.read_text()) | {"claims": [claims.to_dict(c) for c in stated]}
    path.write_text(json.dumps(about))
    loss, measure, accuracy = verdicts.findings(reading.load(tmp_path, "test"))
    for finding in (loss, measure):
        assert finding.verdict == "undecided"
        assert finding.notes[0] == "Runs that diverged or ended without this figure: 1."
    assert accuracy.notes == ("Diverged: relu 1 of 6.",)
    assert accuracy.evidence.comparisons[0].paired.n == 6


def test_failed_runs_do_not_count_in_shares(tmp_path):
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
