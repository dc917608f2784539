"""Claims put to invented results whose verdicts are known."""

import dataclasses
import json

import numpy as np
import pytest
import workdirs
from claimed import LUCK, RELU, TANH, findings, study

from cnnjax.ablation import evidence, reading, statistics, verdicts
from cnnjax.ablation.claims import (
    better,
    chance_level,
    diverges,
    equivalent,
    monotone,
)
from cnnjax.ablation.design import fractional
from cnnjax.ablation.example_values import ExampleValues
from cnnjax.ablation.sides import Sides
from cnnjax.metric import ACCURACY
from cnnjax.report import formatting, statements


def test_better_is_supported_contradicted_or_undecided(tmp_path):
    arms = {"tanh": TANH, "relu": RELU}
    stated = [better("relu", "tanh", by=by) for by in (0, 2, 3, 4)]
    results = findings(tmp_path, arms, *stated)
    assert [f.verdict for f in results] == ["supported", "supported", "undecided", "contradicted"]
    differences = [float(d) for d in RELU - TANH]
    comparison = results[0].evidence.comparisons[0]
    assert comparison.paired.differences == pytest.approx(differences)
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
    assert [f.verdict for f in findings(tmp_path, arms, *stated)] == [
        "supported", "contradicted", "undecided",
    ]  # fmt: skip


def test_lower_loss_is_better(tmp_path):
    (finding,) = findings(
        tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh", metric="loss")
    )
    assert finding.verdict == "supported"
    assert finding.evidence.comparisons[0].paired.mean > 0


def test_monotone_needs_every_step_and_falls_with_one(tmp_path):
    arms = {"a": TANH, "b": RELU, "c": RELU + 0.03 + 0.1 * LUCK}
    steps = [monotone(["a", "b", "c"]), monotone(["a", "c", "b"]), monotone(["a", "b"], by=3)]
    results = findings(tmp_path, arms, *steps)
    assert [f.verdict for f in results] == ["supported", "contradicted", "undecided"]
    assert len(results[0].evidence.comparisons) == 2


def test_a_difference_equal_to_the_margin_is_not_beyond_it(tmp_path):
    """90, 81, ... % less 89, 80, ... % is 1 point in every seed, but for rounding."""
    high = [0.90, 0.81, 0.77, 0.64, 0.58, 0.93, 0.66, 0.71]
    arms = {"a": high, "b": [value - 0.01 for value in high]}
    stated = [better("a", "b", by=1), equivalent("a", "b", within=1, reason="r"), better("a", "b")]
    results = findings(tmp_path, arms, *stated)
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
    (finding,) = findings(tmp_path, arms, claim, overrides=overrides, factors=factors)
    assert finding.evidence.comparisons[0].differences == (0.0,) * 6


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
    results = findings(tmp_path, arms, *stated)
    assert [f.evidence.share.count for f in results] == [6, 6, 0, 0, 2]
    assert [f.evidence.p for f in results][:2] == pytest.approx([2**-6, 2**-6])
    # Each alone would be below 0.05; five together are not (Holm: 5 * 2^-6 = 0.078).
    assert {f.verdict for f in results} == {"undecided"}
    alone = findings(tmp_path / "alone", arms, diverges("a"))
    assert alone[0].verdict == "supported"


def test_a_run_without_a_known_chance_is_not_counted(tmp_path):
    study(tmp_path, {"a": [0.1] * 6}, chance_level("a"))
    workdirs.edit(tmp_path, "a", 0, chance={})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert (finding.evidence.share.count, finding.evidence.share.n) == (5, 5)
    assert finding.verdict == "undecided"
    assert "without this figure: 1" in finding.notes[0]


def test_equal_arms_are_called_equal(tmp_path):
    arms = {"a": list(RELU), "b": list(RELU), "c": [*RELU[:3], *TANH[3:]]}
    stated = [better("a", "b"), better("a", "c")]
    equal, partly = map(statements.figures, findings(tmp_path, arms, *stated))
    assert equal.startswith("a and b are equal in each of 6 seeds; ")
    assert "ahead in 3 of 6 seeds, 3 ties" in partly


def test_aliases_in_a_fraction_are_noted(tmp_path):
    factors = {path: {"": 0, path: 1} for path in "abc"}
    overrides = fractional(factors, {"c": "ab"})
    arms = {name: list(0.8 + LUCK) for name in overrides}
    claim = better({"c": 1}, {"c": 0})
    (finding,) = findings(tmp_path, arms, claim, overrides=overrides, factors=tuple("abc"))
    assert finding.notes == ("This design cannot tell it from a x b.",)


def test_late_claims_do_not_change_the_others(tmp_path):
    arms = {"tanh": TANH, "relu": RELU, "elu": RELU + 0.1 * LUCK}
    stated = [better("relu", "tanh", by=2), equivalent("relu", "elu", within=0.5, reason="r")]
    before = findings(tmp_path / "before", arms, *stated)
    late = [better("elu", "relu", by=by / 10) for by in range(8)]
    after = findings(tmp_path / "after", arms, *stated, late=late)
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


def test_late_arms_are_no_part_of_a_claim(tmp_path):
    """Neither side of it can be changed by looking, and its p stays as it was."""
    arms = {"l.relu": RELU, "l.tanh": TANH}
    claim = better({"model.activation": "relu"}, {"model.activation": "tanh"})
    (before,) = findings(tmp_path / "before", arms, claim)
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
    results = study(tmp_path, arms)
    claim = {"kind": "diverges", "sides": [{"training.epochs": 5}]}
    about = dict(results.about) | {"claims": [claim], "factors": ["training.epochs"]}
    (tmp_path / "study.json").write_text(json.dumps(about))
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.evidence.p < 0.001
    assert finding.verdict == "undecided"
    assert "share their seeds" in finding.notes[0]


def test_blocks_are_tested_separately(tmp_path):
    arms = {"l.tanh": TANH, "l.relu": RELU, "r.tanh": RELU, "r.relu": TANH}
    results = findings(tmp_path, arms, better("relu", "tanh"))
    assert [(f.block, f.verdict) for f in results] == [("l", "supported"), ("r", "contradicted")]


def test_runs_with_different_settings_are_flagged(tmp_path):
    study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    for arm, backend in (("tanh", "cpu"), ("relu", "gpu")):
        for seed in range(6):
            workdirs.edit(tmp_path, arm, seed, runtime={"backend": backend, "threads": 1})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.notes == ("Runs differ in backend: cpu, gpu.",)


def test_runs_on_different_data_leave_the_verdict_open(tmp_path):
    study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    data = {"name": "folder:/x", "class_names": "a, b, c", "division": {}, "splits": {}}
    for arm in ("tanh", "relu"):
        for seed in range(6):
            workdirs.edit(tmp_path, arm, seed, runtime={"data": data})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.verdict == "supported"
    workdirs.edit(tmp_path, "relu", 3, runtime={"data": {**data, "class_names": "a, b"}})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.verdict == "open"
    assert finding.notes == (
        "relu/seed-0 and relu/seed-3 were trained on different data: "
        "class_names 'a, b, c' -> 'a, b'.",
    )
    workdirs.edit(tmp_path, "relu", 3, runtime={"data": {**data, "name": "digits"}})
    workdirs.edit(tmp_path, "relu", 4, runtime={})
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.verdict == "supported"
    assert finding.notes == ("It was not recorded on which data 1 of the 12 runs was trained.",)


def test_other_images_of_a_metric_that_is_not_the_first(tmp_path):
    """The loss of each image, which differs by 0.3 between the arms."""
    claim = better("relu", "tanh", metric="loss")
    results = study(tmp_path, {"tanh": TANH, "relu": RELU}, claim)
    random = np.random.default_rng(9)
    for run in results.runs:
        losses = 1 - 0.3 * (run.arm == "relu") + 0.05 * random.random(400)
        path = tmp_path / run.path / "predictions_test.npz"
        np.savez(path, ids=np.arange(400), outcome=np.zeros(400), outcome_loss=losses)
        result = {"accuracy": 0.5, "loss": float(losses.mean()), "examples": 400}
        workdirs.edit(tmp_path, run.arm, run.seed, test=result)
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    population = finding.evidence.comparisons[0].population
    assert population.mean == pytest.approx(0.3, abs=0.01)


def test_other_images_widen_the_interval(tmp_path):
    """Predictions on 400 images of which the same ones are hard for both arms in all seeds."""
    results = study(tmp_path, {"tanh": TANH, "relu": RELU}, better("relu", "tanh"))
    random = np.random.default_rng(8)
    differs = random.random(400) < 0.1
    for run in results.runs:
        right = np.where(differs, run.arm == "relu", True) ^ (random.random(400) < 0.01)
        logits = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
        path = tmp_path / run.path / "predictions_test.npz"
        np.savez(path, ids=np.arange(400), labels=np.zeros(400, int), logits=logits)
        result = {"accuracy": float(right.mean()), "loss": 1.0, "examples": 400}
        workdirs.edit(tmp_path, run.arm, run.seed, test=result)
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    population = finding.evidence.comparisons[0].population
    assert population.mean == pytest.approx(differs.mean(), abs=0.01)
    # The images' part dominates: about 1.96 sd(d) / sqrt(400), sd(d) about 0.3.
    loaded = reading.load(tmp_path, "test")
    behind = dataclasses.replace(
        finding,
        claim=better("tanh", "relu"),
        evidence=evidence.test(
            better("tanh", "relu"),
            Sides(
                ("tanh", "relu"),
                [[arm] for arm in loaded.arms],
                ExampleValues(loaded, ACCURACY),
                "test",
                ACCURACY,
            ),
        ),
    )
    ends = formatting.interval(ACCURACY, population.low, population.high)
    for each in (finding, behind):  # behind by as much as the other is ahead
        assert f"; for other images too: {ends}" in statements.figures(each)
    path = tmp_path / "relu/seed-3/predictions_test.npz"
    for content in (b"torn", (tmp_path / "tanh/seed-3/predictions_test.npz").read_bytes()):
        path.write_bytes(content)  # damaged, or those of another run
        (lost,) = verdicts.findings(reading.load(tmp_path, "test"))
        assert lost.evidence.comparisons[0].population is None
        assert lost.notes == ("On other images nothing is known: no predictions of relu/seed-3.",)
    half = (population.high - population.low) / 2
    assert half == pytest.approx(1.96 * np.sqrt(0.1 * 0.9 / 400), rel=0.15)
