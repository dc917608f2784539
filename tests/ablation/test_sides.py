"""Mistakes in experiments that are refused: unbalanced sides, colliding names, senseless grids."""

import json

import pytest
import workdirs

from cnnjax.ablation import claims, design, reading, verdicts
from cnnjax.ablation.claims import better, diverges, equivalent, interaction, monotone
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.errors import UserError
from cnnjax.report import ablation as report

BATCH, NONE = {"model.norm.kind": "batch"}, {"model.norm.kind": "none"}
CROSSED = {
    "model.activation": {"relu": "relu", "tanh": "tanh"},
    "model.norm.kind": {"": "none", "bn": "batch"},
}


def experiment(arms, *stated, **fields):
    return Experiment(name="e", question="q", arms=arms, claims=stated, **fields)


def test_unbalanced_sides_are_refused():
    experiment(design.crossed(CROSSED), better(BATCH, NONE))
    one = design.one_at_a_time(CROSSED)
    with pytest.raises(UserError, match=r"differ in model\.activation too: relu_bn; relu, tanh"):
        experiment(one, better(BATCH, NONE))
    more = design.crossed(CROSSED) | {"huge": {"optimizer.learning_rate": 9.0}}
    gain = interaction(
        {"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "tanh")}
    )
    experiment(more, gain)  # huge has neither level
    more["huge"] |= {"model.activation": "relu", "model.norm.kind": "none"}
    with pytest.raises(UserError, match=r"differ in optimizer\.learning_rate too"):
        experiment(more, gain)


def test_a_fraction_of_two_level_factors_is_balanced():
    factors = {path: {"": 0, path.upper(): 1} for path in "abcd"}
    arms = design.fractional(factors, {"d": "abc"})
    assert claims.unbalanced_factors(better({"a": 1}, {"a": 0}), "", arms) == []


def test_missing_arms_leave_a_main_effect_open(tmp_path):
    arms = dict.fromkeys(design.crossed(CROSSED), 0.9)
    stated = [claims.to_dict(better(BATCH, NONE))]
    del arms["tanh_bn"]
    overrides = {
        name: arm_levels for name, arm_levels in design.crossed(CROSSED).items() if name in arms
    }
    workdirs.make(tmp_path, arms, 3, overrides=overrides, factors=tuple(CROSSED), claims=stated)
    (finding,) = verdicts.findings(reading.load(tmp_path))
    assert finding.verdict == "open"
    assert finding.notes[0] == "The arms that are here differ in model.activation too."


def test_a_side_can_be_the_level_None_of_an_unset_factor(tmp_path):
    compared = experiment({"plain": {}, "bn": BATCH}, better(BATCH, {"model.norm.kind": None}))
    levels = {arm: compared.levels(arm) for arm in compared.arms}
    values = [claims.to_dict(claim) for claim in compared.claims]
    workdirs.make(
        tmp_path, {"plain": 0.8, "bn": 0.9}, 4, overrides=dict(compared.arms),
        factors=("model.norm.kind",), claims=values,
    )  # fmt: skip
    path = tmp_path / "study.json"
    study = json.loads(path.read_text())
    for arm, arm_levels in levels.items():
        study["arms"][arm] |= {"levels": arm_levels}
        study["arms"][arm]["config"]["model"].setdefault("norm", {})["kind"] = "resolved"
    path.write_text(json.dumps(study))
    (finding,) = verdicts.findings(reading.load(tmp_path))
    assert finding.verdict == "supported"


@pytest.mark.parametrize(
    "make",
    [
        lambda: design.crossed({"a": {"": 1, "on": 2}, "b": {"": 3, "on": 4}}),
        lambda: design.one_at_a_time({"a": {"": 1, "on": 2}, "b": {"": 3, "on": 4}}),
        lambda: design.crossed({"a": {"x": 1, "x_y": 2}, "b": {"y_z": 1, "z": 2}}),
    ],
)
def test_colliding_names_are_refused(make):
    with pytest.raises(UserError, match="are both called"):
        make()


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (lambda: [better("a", "a")], "two of its sides are the same arms: a"),
        (lambda: [better("a", "b", by=500)], "margin: 500 is not valid"),
        (lambda: [better("a", "b", by="1")], "margin: '1' is not a number"),
        (lambda: [better(("a", "b"), "b")], "is neither an arm's name nor a dict of levels"),
        (lambda: [diverges("a"), diverges("a")], "a claim is made twice"),
        (lambda: better("a", "b"), "is not a list of claims"),
        (lambda: [monotone("ab")], "'ab' is not a list of levels"),
        (lambda: [equivalent("a", {}, within=1, reason="r")], "neither an arm's name"),
    ],
)
def test_senseless_claims_are_refused(stated, message):
    with pytest.raises(UserError, match=message):
        Experiment(
            name="e", question="q", arms={"a": {}, "b": {"model.activation": "tanh"}},
            claims=stated(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"model.activation": ("relu", "elu")}, "is what arm 'b' is"),
        ({"optimizer.learning_rate": (0.1, 0.1)}, "each once"),
        ({"optimizer.learning_rate": 0.1}, "is not a list of values"),
        ({"model.hidden": ([8], [16])}, "must be numbers, texts"),
    ],
)
def test_senseless_grids_are_refused(grid, message):
    with pytest.raises(UserError, match=message):
        experiment({"a": {}, "b": {"model.activation": "tanh"}}, tune=Tune(grid))


def test_a_metric_that_no_run_has_leaves_a_claim_open(tmp_path):
    values = [claims.to_dict(better("relu", "tanh", metric="measures.foo"))]
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 3, claims=values)
    (finding,) = verdicts.findings(reading.load(tmp_path))
    assert (finding.verdict, finding.notes[0]) == ("open", "No seed has this figure on both sides.")


def test_the_report_warns_of_arms_with_the_same_weights(tmp_path):
    workdirs.make(tmp_path, {"before": 0.9, "after": 0.9, "none": 0.8}, 2)
    for seed in range(2):
        for arm, digest in (("before", "a"), ("after", "a"), ("none", "b")):
            workdirs.edit(tmp_path, arm, seed, params_digest=f"{digest}{seed}")
    text = report.write(tmp_path).page.read_text()
    assert "before and after ended with the same weights in every seed" in text
