"""Interactions: what one factor does that depends on another, and what a ceiling fakes."""

import json

import numpy as np
import pytest
import workdirs
from claimed import FACTORS, GAIN, LUCK, crossed_findings, findings

from cnnjax.ablation import claims, reading, statistics, verdicts
from cnnjax.ablation.claims import (
    better,
    interaction,
)
from cnnjax.report import statements


def test_an_interaction_and_the_main_effects(tmp_path):
    batch, none = ({"model.norm.kind": kind} for kind in ("batch", "none"))
    results = crossed_findings(
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
    (finding,) = crossed_findings(
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
    one_sided, two_sided = crossed_findings(tmp_path, means, *stated)
    accuracy = one_sided.evidence.comparisons[0].differences
    log_odds = one_sided.evidence.log_odds.differences
    ps = [statistics.p_above(each, 0) for each in (accuracy, log_odds)]
    assert ps[0] < 0.01 < ps[1]
    assert one_sided.evidence.p == ps[1]
    lower = [statistics.p_below(each, 0) for each in (accuracy, log_odds)]
    assert one_sided.evidence.against == max(lower)
    different = [statistics.p_different(each, 0) for each in (accuracy, log_odds)]
    assert two_sided.evidence.p in (max(different), 1.0)


def test_a_ceiling_is_no_interaction_of_measures_either(tmp_path):
    """Shares of examples on moved images, say; a gain is none."""
    crossed_findings(tmp_path, [0.9412, 0.9846, 0.50, 0.80])
    study = reading.load(tmp_path, "test")
    for run in study.runs:
        value = run.result.test.get("accuracy")
        measures = {"shift_1": value, "monte_carlo_gain": value}
        workdirs.edit(tmp_path, run.arm, run.seed, measures={"test": measures})
    stated = [interaction(*GAIN, direction="positive", metric=f"measures.{name}")
              for name in ("shift_1", "monte_carlo_gain")]  # fmt: skip
    path = tmp_path / "study.json"
    about = json.loads(path.read_text()) | {"claims": [claims.to_dict(c) for c in stated]}
    path.write_text(json.dumps(about))
    shift, gain = verdicts.findings(reading.load(tmp_path, "test"))
    assert (shift.verdict, shift.scale_matters) == ("undecided", True)
    assert (gain.verdict, gain.evidence.log_odds) == ("supported", None)


def test_an_interaction_lost_by_correction_alone_is_no_ceiling(tmp_path):
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
    finding, *_ = findings(tmp_path, arms, gain, *others, overrides=overrides, factors=FACTORS)
    assert max(finding.evidence.on_accuracy[0], finding.evidence.p) < 0.1 < finding.corrected
    assert (finding.verdict, finding.scale_matters, finding.notes) == ("undecided", False, ())
    assert "6 seeds find" in statements.sentence(finding, 9)


def test_a_margin_of_points_is_refuted_in_points(tmp_path):
    """Far from a ceiling, and on both scales in the direction that was claimed."""
    (finding,) = crossed_findings(
        tmp_path, [0.50, 0.52, 0.50, 0.53], interaction(*GAIN, direction="positive", by=5)
    )
    assert finding.evidence.log_odds.mean > 0
    assert (finding.verdict, finding.notes) == ("contradicted", ())
