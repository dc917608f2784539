import dataclasses
import json

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import agreement, reading, study
from cnnjax.ablation.claims import better
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.errors import UserError
from cnnjax.metric import ACCURACY, LOSS
from cnnjax.report import ablation

EXPERIMENT = Experiment(
    name="e", question="?", arms={"a": {}, "b": {"model.activation": "tanh"}}, seeds=(0, 1)
)


def extend(workdir, arms=("a", "b"), seeds=(0, 1), experiment=EXPERIMENT, changes=None, data=()):
    configs = {arm: experiment.config(arm, changes or {}, {}) for arm in arms}
    study.extend(
        workdir, experiment, __import__("pathlib").Path(__file__), configs, seeds,
        planned={arm: experiment.config(arm, changes or {}, {}) for arm in experiment.arms},
        data=data, changes=changes or {}, command="the command",
    )  # fmt: skip
    return json.loads((workdir / "study.json").read_text())


def begin(workdir, arm):
    (workdir / arm / "seed-0").mkdir(parents=True)
    (workdir / arm / "seed-0" / "config.json").write_text("{}")


def test_a_new_study_holds_what_reproduces_it(tmp_path):
    recorded = extend(tmp_path)
    assert list(recorded["arms"]) == ["a", "b"]
    assert recorded["arms"]["a"]["baseline"]
    assert not recorded["arms"]["b"]["baseline"]
    assert recorded["seeds"] == [0, 1]
    assert recorded["command"] == "the command"
    assert recorded["factors"] == ["model.activation"]
    assert recorded["extensions"][0]["versions"]["jax"]
    copies = list((tmp_path / "study").glob("*test_study.py"))
    assert len(copies) == 1
    assert "def test_a_new_study" in copies[0].read_text()


def test_seeds_and_arms_extend_it_and_each_extension_is_dated(tmp_path):
    extend(tmp_path, arms=["b"], seeds=[0])
    extend(tmp_path, arms=["b"], seeds=[0])
    recorded = extend(tmp_path, arms=["a", "b"], seeds=[3, 0])
    assert list(recorded["arms"]) == ["a", "b"]
    assert recorded["seeds"] == [0, 3]
    assert len(recorded["extensions"]) == 2
    assert recorded["extensions"][1]["date"] >= recorded["extensions"][0]["date"]


def test_claims_and_seeds_added_after_results_are_marked(tmp_path):
    first, second = better("a", "b"), better("b", "a", by=1)
    claiming = dataclasses.replace(EXPERIMENT, claims=(first,))
    recorded = extend(tmp_path, experiment=claiming)
    assert [(claim["kind"], claim["post_hoc"]) for claim in recorded["claims"]] == [
        ("better", False)
    ]
    begin(tmp_path, "a")
    (tmp_path / "a/seed-0/result.json").write_text("{}")
    recorded = extend(tmp_path, experiment=dataclasses.replace(EXPERIMENT, claims=(second,)))
    assert [claim["post_hoc"] for claim in recorded["claims"]] == [False, True]  # the first stays
    extend(tmp_path, experiment=claiming, seeds=(0, 1, 2))
    read = reading.load(tmp_path)
    assert [late for _, late in read.claims] == [False, True]
    assert read.late_seeds == [2]


def test_a_study_of_an_older_version_is_extended_and_its_arms_are_not_late(tmp_path):
    """It knew fewer fields, and made its digests of all of them."""
    extend(tmp_path)
    begin(tmp_path, "a")
    (tmp_path / "a/seed-0/result.json").write_text("{}")
    path = tmp_path / "study.json"
    older = json.loads(path.read_text())
    digests = {arm: f"of all fields of {arm}" for arm in older["arms"]}
    older["extensions"][0]["planned"] = digests
    for arm, record in older["arms"].items():
        record["defined"] = digests[arm]
        del record["config"]["task"]
    path.write_text(json.dumps(older))
    recorded = extend(tmp_path, seeds=(0, 1, 2))
    assert {arm: record["defined"] for arm, record in recorded["arms"].items()} == digests
    assert reading.load(tmp_path).late_arms == set()


def test_the_title_and_decimals_of_a_metric_may_change(tmp_path):
    study_ = extend(tmp_path)
    begin(tmp_path, "a")
    looks = dataclasses.replace(ACCURACY, title="top-1", decimals=1)
    agreement.check_metrics(tmp_path, study_, (looks, LOSS))
    with pytest.raises(UserError, match="measured by other metrics"):
        agreement.check_metrics(
            tmp_path, study_, (dataclasses.replace(ACCURACY, higher_is_better=False), LOSS)
        )


def test_the_baseline_stays_when_arms_and_factors_are_added(tmp_path):
    extend(tmp_path)
    begin(tmp_path, "a")
    (tmp_path / "a/seed-0/result.json").write_text("{}")
    arms = {"z": {"training.epochs": 3}, **EXPERIMENT.arms}
    recorded = extend(
        tmp_path, ["z", "a", "b"], experiment=dataclasses.replace(EXPERIMENT, arms=arms)
    )
    assert [arm for arm, record in recorded["arms"].items() if record["baseline"]] == ["a"]
    assert list(recorded["arms"]) == ["z", "a", "b"]
    assert recorded["factors"] == ["training.epochs", "model.activation"]
    assert reading.load(tmp_path).late_arms == {"z"}


def test_an_arm_with_other_settings_than_planned_is_late(tmp_path):
    third = {**EXPERIMENT.arms, "c": {"training.epochs": 3}}
    planned = dataclasses.replace(EXPERIMENT, arms=third)
    extend(tmp_path, ["a"])
    extend(tmp_path, ["a"], experiment=planned)  # thought of before there is a result
    begin(tmp_path, "a")
    (tmp_path / "a/seed-0/result.json").write_text("{}")
    extend(tmp_path, ["b", "c"], experiment=planned)
    assert reading.load(tmp_path).late_arms == set()
    other = dataclasses.replace(EXPERIMENT, arms=third | {"c": {"training.epochs": 4}})
    extend(tmp_path, ["c"], experiment=other)
    assert reading.load(tmp_path).late_arms == {"c"}


def test_an_arm_changed_by_set_is_late(tmp_path):
    """And what is the same, written otherwise, does not."""
    extend(tmp_path, ["a"])
    begin(tmp_path, "a")
    (tmp_path / "a/seed-0/result.json").write_text("{}")
    same = dataclasses.replace(EXPERIMENT, base={"training.batch_size": 64})
    extend(tmp_path, ["b"], experiment=same)
    assert reading.load(tmp_path).late_arms == set()
    extend(tmp_path, ["b"], changes={"training.epochs": 3})
    assert reading.load(tmp_path).late_arms == {"b"}


def test_arms_tuned_by_another_grid_are_refused(tmp_path):
    def tuned(*rates):
        tune = Tune({"optimizer.learning_rate": rates}, seeds=(9,))
        return dataclasses.replace(EXPERIMENT, tune=tune)

    extend(tmp_path, experiment=tuned(0.1, 0.2))
    extend(tmp_path, experiment=tuned(0.1, 0.3), seeds=(0, 1, 2))  # nothing has begun
    begin(tmp_path, "a")
    extend(tmp_path, experiment=tuned(0.1, 0.3), seeds=(0, 1, 2, 3))
    for other in (tuned(0.1, 0.3, 1.0), EXPERIMENT):
        with pytest.raises(UserError, match=r"learning_rate: 0\.1, 0\.3 \(seeds 9\), not by"):
            extend(tmp_path, experiment=other)


def test_looks_at_the_test_split_are_counted(tmp_path):
    extend(tmp_path)
    study.count_look(tmp_path, "one")
    study.count_look(tmp_path, "two")
    looks = json.loads((tmp_path / "study.json").read_text())["looks_at_test"]
    assert [look["command"] for look in looks] == ["one", "two"]
    with pytest.raises(UserError, match="holds no study"):
        study.count_look(tmp_path / "nowhere", "three")
    assert not (tmp_path / "nowhere").exists()


def test_a_changed_configuration_is_refused_naming_the_keys(tmp_path):
    before = extend(tmp_path)
    begin(tmp_path, "a")
    with pytest.raises(UserError, match=r"arm 'a'.*training.epochs 10.0 -> 2.0"):
        extend(tmp_path, changes={"training.epochs": 2})
    assert json.loads((tmp_path / "study.json").read_text()) == before


def test_the_configuration_of_an_arm_that_has_not_begun_may_change(tmp_path):
    extend(tmp_path)
    begin(tmp_path, "b")
    recorded = extend(tmp_path, arms=["a"], changes={"training.epochs": 2})
    assert recorded["arms"]["a"]["config"]["training"]["epochs"] == 2
    assert list(recorded["arms"]) == ["a", "b"]


def test_the_folder_of_another_experiment_is_refused(tmp_path):
    extend(tmp_path)
    other = Experiment(name="f", question="?", arms={"a": {}})
    with pytest.raises(UserError, match="belongs to experiment 'e', not 'f'"):
        extend(tmp_path, arms=["a"], experiment=other)


CATS = {
    "name": "folder:/pictures",
    "class_names": "cat, dog",
    "examples": {"train": 30},
    "content": "sha256:1",
    "division": {"validation_fraction": 0.1},
    "splits": {"train": "24 of train, sha256:2"},
}
"""The fingerprint of a folder."""

EMUS = {**CATS, "class_names": "cat, dog, emu", "content": "sha256:3"}
CHANGES = r"class_names 'cat, dog' -> 'cat, dog, emu'; content 'sha256:1' -> 'sha256:3'"


def test_other_data_are_refused_once_a_run_has_begun(tmp_path):
    extend(tmp_path, data=[EMUS])
    before = extend(tmp_path, data=[CATS])  # nothing has begun
    assert before["data"] == [CATS]
    run(tmp_path, "a", 0)
    with pytest.raises(UserError, match=CHANGES):
        extend(tmp_path, arms=["b"], seeds=(5,), data=[EMUS])
    assert json.loads((tmp_path / "study.json").read_text()) == before
    digits = {**CATS, "name": "digits"}
    other = {**CATS, "division": {"validation_fraction": 0.5}, "splits": {"train": "9 of train"}}
    assert extend(tmp_path, data=[CATS, digits, other])["data"] == [CATS, digits, other]


def test_data_other_than_those_of_tuning_are_refused(tmp_path):
    extend(tmp_path / "tuning", data=[CATS])
    run(tmp_path / "tuning", "a", 0)
    with pytest.raises(UserError, match=CHANGES):
        extend(tmp_path, data=[EMUS])


def test_the_data_of_a_study_of_an_older_version_are_those_of_its_runs(tmp_path):
    about = extend(tmp_path)
    del about["data"]
    (tmp_path / "study.json").write_text(json.dumps(about))
    run(tmp_path, "a", 0)  # of an older version still
    assert extend(tmp_path, data=[CATS])["data"] == [CATS]
    del about["seeds"][1]
    (tmp_path / "study.json").write_text(json.dumps(about))
    run(tmp_path, "b", 0, data=CATS)
    with pytest.raises(UserError, match=CHANGES):
        extend(tmp_path, seeds=(5,), data=[EMUS])


def run(workdir, arm, seed, changes=None, **runtime):
    """A run as it is left once it has ended."""
    folder = workdir / arm / f"seed-{seed}"
    folder.mkdir(parents=True)
    config = EXPERIMENT.config(arm, changes or {}, {}).model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "runtime.json").write_text(json.dumps(runtime))
    (folder / "result.json").write_text(json.dumps({"status": "diverged"}))


def test_a_lost_study_is_made_again_from_its_runs(tmp_path):
    extend(tmp_path)
    run(tmp_path, "a", 0)
    run(tmp_path, "b", 7)
    (tmp_path / "study.json").unlink()
    claiming = dataclasses.replace(EXPERIMENT, claims=(better("a", "b"),))
    recorded = extend(tmp_path, arms=["a"], seeds=[3], experiment=claiming)
    assert list(recorded["arms"]) == ["a", "b"]
    assert recorded["seeds"] == [0, 3, 7]
    assert recorded["claims"][0]["post_hoc"]
    assert reading.load(tmp_path).late_seeds == [0, 3, 7]


def test_a_lost_study_keeps_its_data_and_looks(tmp_path):
    extend(tmp_path, data=[CATS])
    run(tmp_path, "a", 0, data=CATS)
    (tmp_path / "final").mkdir()
    (tmp_path / "study.json").unlink()
    with pytest.raises(UserError, match="the command that made its runs makes it again"):
        reading.load(tmp_path)
    with pytest.raises(UserError, match=CHANGES):
        extend(tmp_path, data=[EMUS])
    assert not (tmp_path / "study.json").exists()
    claiming = dataclasses.replace(EXPERIMENT, claims=(better("a", "b"),))
    recorded = extend(tmp_path, data=[CATS, CATS], experiment=claiming)
    assert recorded["data"] == [CATS]
    assert len(recorded["looks_at_test"]) == 1
    assert recorded["adopted"]
    study.count_look(tmp_path, "a look")
    text = ablation.write(tmp_path, final=True).page.with_suffix(".md").read_text()
    assert "so far: 2 at least, since study.json was lost and made again on" in text


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("a", {"training.epochs": 3}, r"a/seed-0 .*training.epochs 3.0 -> 10.0"),
        ("c", None, r"c/seed-0 is no run of experiment 'e' \(arms a, b\)"),
    ],
)
def test_runs_that_are_not_of_the_experiment_are_not_adopted(tmp_path, arm, changes, message):
    run(tmp_path, "a", 0, changes)
    (tmp_path / "a").rename(tmp_path / arm)
    with pytest.raises(UserError, match=message):
        extend(tmp_path)
    assert not (tmp_path / "study.json").exists()


@pytest.mark.parametrize("name", ["report.md", "figures"])
def test_a_foreign_report_is_not_overwritten(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"is of no study and has a {name}"):
        extend(tmp_path)


def test_a_torn_study_file_is_named(tmp_path):
    (tmp_path / "study.json").write_text('{"experiment": ')
    again = "(?s)study.json: is not whole JSON.*the command that made the runs beside it makes it"
    with pytest.raises(UserError, match=again):
        extend(tmp_path)


def test_a_claim_that_makes_no_sense_is_named(tmp_path):
    about = extend(tmp_path)
    claim = {"kind": "better", "sides": ["a", "b"], "margin": "3"}
    (tmp_path / "study.json").write_text(json.dumps(about | {"claims": [claim]}))
    with pytest.raises(UserError, match=r"study\.json: claims: a claim that makes no sense"):
        extend(tmp_path, seeds=(7,))


def test_a_run_without_predictions_is_pending_if_it_has_its_checkpoint(tmp_path):
    folder = workdirs.make(tmp_path, {"a": 0.9}, 1) / "a" / "seed-0"
    (finished,) = study.runs(tmp_path, ["a"], [0])
    assert finished.ended  # there is nothing to make them from
    (folder / "checkpoints" / "115").mkdir(parents=True)
    assert not finished.ended
    for split in workdirs.SPLITS:
        np.savez(folder / f"predictions_{split}.npz", ids=np.arange(9))
    assert finished.ended
    copies = folder / "predictions_test.npz"
    copies.write_bytes(copies.read_bytes()[:-9])
    assert not finished.ended


def test_a_failed_or_unreadable_result_leaves_the_run_pending(tmp_path):
    run = study.runs(tmp_path, ["a"], [0])[0]
    run.directory.mkdir(parents=True)
    ended = {}
    for status in ("finished", "diverged", "failed"):
        content = {"status": status, "validation": {"accuracy": 0.5}}
        (run.directory / "result.json").write_text(json.dumps(content))
        ended[status] = run.ended
    (run.directory / "result.json").write_text('{"status": "fini')
    ended["torn"] = run.ended
    for name, figures in (("nothing", {}), ("no accuracy", {"validation": {}})):
        content = json.dumps({"status": "finished", **figures})
        (run.directory / "result.json").write_text(content)
        ended[name] = run.ended
    assert [name for name, value in ended.items() if value] == ["finished", "diverged"]
    assert len(ended) == 6


def test_a_study_with_a_relative_data_folder_is_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"data.name": "folder:images"}
    recorded = extend(tmp_path / "w", changes=changes)
    assert recorded["arms"]["a"]["config"]["data"]["name"] == f"folder:{tmp_path}/images"
    begin(tmp_path / "w", "a")
    path = tmp_path / "w" / "study.json"
    path.write_text(path.read_text().replace(f"folder:{tmp_path}/images", "folder:images"))
    recorded = extend(tmp_path / "w", seeds=(0, 1, 2), changes=changes)
    assert recorded["seeds"] == [0, 1, 2]
    (tmp_path / "other").mkdir()
    path.write_text(path.read_text().replace(f"folder:{tmp_path}/images", "folder:images"))
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(UserError, match=r"data.name 'folder:.*other/images' -> 'folder:"):
        extend(tmp_path / "w", changes={"data.name": f"folder:{tmp_path}/images"})


@pytest.mark.parametrize("seeds", [range(10**8), range(10_001)])
def test_too_many_seeds_are_refused_at_once(seeds):
    with pytest.raises(UserError, match=r"seeds: are .*; allowed: at most 10,000"):
        dataclasses.replace(EXPERIMENT, seeds=seeds)
