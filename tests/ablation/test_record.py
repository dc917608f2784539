"""study.json and result.json: what fits is read, also of older versions; what does not is named."""

import json

import pytest
import workdirs

from cnnjax import result
from cnnjax.ablation import reading, record, study
from cnnjax.errors import UserError


@pytest.fixture
def workdir(tmp_path):
    return workdirs.make(tmp_path / "w", {"relu": 0.9, "tanh": 0.8}, 2)


def change(workdir, **fields):
    path = workdir / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"arms": {"../x": {}}}, "arms.../x"),
        ({"arms": {"/tmp/x": {}}}, "arms./tmp/x"),
        ({"arms": {"x" * 300: {}}}, "arms.x"),
        ({"arms": {"relu": {"overrides": 3}}}, "arms.relu.overrides"),
        ({"arms": {"relu": {"baseline": 1}}}, "arms.relu.baseline"),
        ({"seeds": [0, "1"]}, "seeds[1]"),
        ({"seeds": [-1]}, "seeds[0]"),
        ({"factors": [["a"]]}, "factors[0]"),
        ({"set": 3}, "set"),
        ({"claims": [3]}, "claims[0]"),
        ({"extensions": [{"seeds": "01"}]}, "extensions[0].seeds"),
        ({"tune": {"grid": {"a": 3}, "seeds": [9]}}, "tune.grid.a"),
        ({"tune": {"grid": {f"f{n}": [0] * 10 for n in range(9)}, "seeds": [9]}}, "tune.grid"),
        ({"experiment": "x"}, "experiment"),
        ({"source": {"path": 3}}, "source.path"),
    ],
)
def test_an_invalid_study_is_refused_with_the_field(workdir, fields, named):
    path = change(workdir, **fields)
    for read in (reading.load, study.read):
        with pytest.raises(UserError) as caught:
            read(workdir)
        assert str(caught.value).startswith(f"{path}: {named}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 800


def test_fields_of_other_versions_are_preserved(workdir):
    change(workdir, later={"relu": {"images": 3}})
    about = study.read(workdir)
    assert about["later"] == {"relu": {"images": 3}}
    assert "tune" not in about  # older studies do not tell
    assert about["extensions"][0]["planned"] is None
    study.count_look(workdir, "x")
    assert study.read(workdir)["later"] == {"relu": {"images": 3}}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"seconds": "12"}, "seconds"),
        ({"seconds": 1e300}, "seconds"),
        ({"steps": True}, "steps"),
        ({"validation": {"accuracy": 1.5}}, "validation.accuracy"),
        ({"test": 0.9}, "test"),
        ({"params_digest": ["ab"]}, "params_digest"),
        ({"chance": {"test": {"accuracy": "x"}}}, "chance.test.accuracy"),
        ({"measures": {"test": [0.5]}}, "measures.test"),
        ({"signals": {"end": {"conv1": {"sd": "x"}}}}, "signals.end.conv1.sd"),
        ({"error": 3}, "error"),
        ({"status": "done"}, "status"),
    ],
)
def test_an_invalid_result_affects_only_its_run(workdir, fields, named):
    workdirs.edit(workdir, "relu", 0, **fields)
    runs = reading.load(workdir).runs
    assert [run.status for run in runs] == ["unreadable", *["finished"] * 3]
    assert runs[0].error.startswith(f"result.json: {named}: ")
    assert study.runs(workdir, ["relu"], [0])[0].result() is None


def test_older_results_are_read(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(
        '{"status": "finished", "test": {"accuracy": 0.5, "loss": null}, "chance": {"test": 0.1}}'
    )
    old = result.read(path)
    assert old.chance["test"].accuracy == 0.1
    assert old.seconds is None


def test_a_claim_with_invalid_sides_is_named(workdir):
    claim = {"kind": "better", "sides": [3, None]}
    for claims in ([claim], [claim | {"kind": "interaction", "sides": ["a", "b", "c", "d"]}]):
        change(workdir, claims=claims)
        with pytest.raises(UserError, match=r"study\.json: claims: a claim that makes no sense"):
            reading.load(workdir)


def test_a_new_study_has_only_fields_of_the_schema():
    from cnnjax.ablation.experiment import Experiment

    fresh = study._new_study(Experiment(name="e", question="?", arms={"a": {}}))
    assert fresh.keys() <= record.StudyRecord.model_fields.keys()
