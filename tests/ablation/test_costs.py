"""Claims on what a run takes and on what goes on inside of its network."""

import json

import claimed
import numpy as np
import pytest
import workdirs

from cnnjax.ablation import claims, reading, verdicts
from cnnjax.metric import find
from cnnjax.report import ablation, statements

NARROW, WIDE = "narrow", "wide"
SEEDS = range(6)


def findings(workdir, arms, *stated):
    """The findings on two arms whose runs' results have these fields, a function of the seed."""
    workdirs.make(workdir, dict.fromkeys(arms, 0.9), len(SEEDS))
    for arm, fields in arms.items():
        for seed in SEEDS:
            workdirs.edit(workdir, arm, seed, **fields(seed))
    path = workdir / "study.json"
    about = json.loads(path.read_text()) | {"claims": [claims.to_dict(each) for each in stated]}
    path.write_text(json.dumps(about))
    return verdicts.findings(reading.load(workdir, "test"))


def test_seconds_are_compared_seed_by_seed_and_fewer_are_better(tmp_path):
    arms = {NARROW: lambda s: {"seconds": 10.0 + s}, WIDE: lambda s: {"seconds": 13.0 + s + s % 2}}
    faster, slower = findings(
        tmp_path,
        arms,
        claims.better(NARROW, WIDE, metric="seconds", by=2),
        claims.better(WIDE, NARROW, metric="seconds"),
    )
    assert (faster.verdict, slower.verdict) == ("supported", "contradicted")
    assert faster.evidence.comparisons[0].paired.mean == pytest.approx(3.5)
    assert faster.evidence.comparisons[0].population is None
    text = statements.claim_text(faster.claim)
    assert text == "narrow is below wide in seconds by more than 2 s"
    assert "narrow is 3.50 s [2.93, 4.07] ahead of wide" in statements.figures(faster)


def test_metrics_equal_for_all_seeds_are_decided_without_a_test(tmp_path):
    arms = {NARROW: lambda _: {"parameters": 61_706}, WIDE: lambda _: {"parameters": 123_412}}
    fewer, half, more = findings(
        tmp_path,
        arms,
        claims.better(NARROW, WIDE, metric="parameters", by=61_705),
        claims.better(NARROW, WIDE, metric="parameters", by=61_706),
        claims.better(WIDE, NARROW, metric="parameters"),
    )
    assert [each.verdict for each in (fewer, half, more)] == [
        "supported",
        "contradicted",
        "contradicted",
    ]
    assert fewer.evidence.p == 0
    assert statements.figures(fewer).startswith("narrow is 61,706 ahead of wide")
    assert statements.claim_text(fewer.claim).endswith("in parameters by more than 61,705")
    assert statements.figures(fewer).endswith("no seed changes it.")


def layers(first, last, moment="end", name="gradient"):
    return {"signals": {moment: {"conv1": {name: first}, "head": {name: last}}}}


def test_a_vanishing_gradient_is_shown_in_decades(tmp_path):
    arms = {
        NARROW: lambda s: layers(1e-2 * 1.1**s, 1e-1),
        WIDE: lambda s: layers(1e-5 * 1.2**s, 1e-1),
    }
    (finding,) = findings(
        tmp_path,
        arms,
        claims.better(NARROW, WIDE, metric="signals.gradient.first_over_last", by=2),
    )
    assert finding.verdict == "supported"
    apart = [3 + s * np.log10(1.1 / 1.2) for s in SEEDS]
    assert finding.evidence.comparisons[0].differences == pytest.approx(apart)
    assert "decades" in statements.figures(finding)


def test_reductions_of_layers():
    study = reading.Run("a", "", 0, "finished", "", {}, (), result_of([4.0, None, 1.0, 2.0]))
    metric = {name: find(f"signals.sd.{name}") for name in ("first", "last", "mean", "smallest")}
    metric |= {name: find(f"signals.sd.{name}") for name in ("largest", "first_over_last")}
    values = {name: study.score(each, "test") for name, each in metric.items()}
    assert values == {
        "first": 4.0,
        "last": 2.0,
        "mean": pytest.approx(7 / 3),
        "smallest": 1.0,
        "largest": 4.0,
        "first_over_last": pytest.approx(np.log10(2)),
    }
    assert study.score(find("signals.start.sd.mean"), "test") is None
    assert study.score(find("signals.gradient.mean"), "test") is None


def result_of(sds):
    numbers = {f"layer{place}": {"sd": sd} for place, sd in enumerate(sds)}
    test = {"accuracy": 0.5, "loss": 1.0, "examples": 4}
    return reading.result.RunResult(status="finished", test=test, signals={"end": numbers})


def curve(workdir, arm, seed, accuracies):
    """A run that was evaluated every ten steps."""
    lines = [
        {"split": "validation", "step": 10 * place, "epoch": place, "accuracy": accuracy, "loss": 1}
        for place, accuracy in enumerate(accuracies, 1)
    ]
    folder = workdir / arm / f"seed-{seed}"
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_steps_to_an_accuracy_and_runs_that_never_reach_it(tmp_path):
    stated = [
        claims.better("relu", "tanh", metric="steps_to(0.8)"),
        claims.better("tanh", "relu", metric="steps_to(0.8)"),
    ]
    claimed.study(tmp_path, {"relu": claimed.RELU, "tanh": claimed.TANH}, *stated)
    for seed in SEEDS:
        curve(tmp_path, "relu", seed, [0.5, 0.7 + 0.02 * (seed % 3), 0.85, 0.9])
        curve(tmp_path, "tanh", seed, [0.5, 0.6, 0.7, 0.8 - 0.02 * (seed == 2)])
        workdirs.edit(tmp_path, "tanh", seed, steps=40)
    study = reading.load(tmp_path, "test")
    relu, tanh = study.arms
    metric = find("steps_to(0.8)")
    assert relu.scores(metric, "test") == dict.fromkeys(SEEDS, 30)
    assert tanh.scores(metric, "test") == dict.fromkeys(
        SEEDS, 40
    )  # seed 2 took 40 and did not get there
    assert tanh.scores(metric, "test", observed_only=True).keys() == {0, 1, 3, 4, 5}
    faster, slower = verdicts.findings(study)
    assert (faster.verdict, slower.verdict) == ("supported", "contradicted")
    text = "relu is below tanh in steps to 80 % validation accuracy"
    assert statements.claim_text(faster.claim) == text
    for seed in SEEDS:  # runs that never get there count with all the steps they took, too few here
        workdirs.edit(tmp_path, "tanh", seed, steps=20)
        curve(tmp_path, "tanh", seed, [0.5, 0.6])
    faster, slower = verdicts.findings(reading.load(tmp_path, "test"))
    assert (faster.verdict, slower.verdict) == ("undecided", "undecided")
    assert "never came as far" in " ".join(slower.notes)


def test_the_time_of_a_diverged_run_is_not_compared(tmp_path):
    arms = {"relu": list(claimed.RELU), "tanh": [None] * 6}
    (finding,) = claimed.findings(tmp_path, arms, claims.better("tanh", "relu", metric="seconds"))
    assert finding.verdict == "open"
    assert "ended without this figure: 6" in " ".join(finding.notes)
    arms["tanh"] = [*claimed.TANH[:5], None]
    again = tmp_path / "again"
    (finding,) = claimed.findings(again, arms, claims.better("tanh", "relu", metric="seconds"))
    assert (finding.verdict, finding.evidence.comparisons[0].paired.n) == ("undecided", 5)
    assert "ended without this figure: 1" in " ".join(finding.notes)


def test_the_report_has_one_plot_of_claims_for_each_unit(tmp_path):
    arms = {NARROW: lambda s: {"seconds": 10.0 + s}, WIDE: lambda s: {"seconds": 13.0 + s + s % 2}}
    findings(
        tmp_path,
        arms,
        claims.better(NARROW, WIDE),
        claims.better(NARROW, WIDE, metric="seconds"),
        claims.better(NARROW, WIDE, metric="measures.shift_1"),
    )
    ablation.write(tmp_path)
    drawn = {path.name for path in (tmp_path / "figures").glob("claims*.svg")}
    assert drawn == {"claims.svg", "claims-2.svg"}
    assert "difference (s)" in (tmp_path / "figures/claims-2.svg").read_text()
    text = (tmp_path / "report.md").read_text()
    assert "narrow is below wide in seconds" in text
    assert " 3.50 s " in text
