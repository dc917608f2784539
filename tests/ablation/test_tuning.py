"""Arms that choose their own settings: the grid, the choice, and the report on it."""

import json

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import tuning
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.errors import UserError
from cnnjax.report import ablation as report
from common import program

RATES = (0.01, 0.1, 1.0)


def experiment(**fields):
    values = {
        "name": "e",
        "question": "q",
        "arms": {"b.relu": {"model.activation": "relu"}, "b.tanh": {"model.activation": "tanh"}},
        "tune": Tune({"optimizer.learning_rate": RATES}, seeds=(1000, 1001)),
    }
    return Experiment(**{**values, **fields})


def make_tuning(tmp_path, relu=(0.5, 0.9, 0.7), tanh=(0.5, 0.6, None)):
    tuned_experiment = experiment()
    names = [tuning.tuning_arms(tuned_experiment.tune, arm) for arm in tuned_experiment.arms]
    means = dict(zip([*names[0], *names[1]], [*relu, *tanh], strict=True))
    (tmp_path / "tuning").mkdir()
    workdirs.make(tmp_path / "tuning", means, 1001, spread=0.0, only=(1000, 1001))
    return tuned_experiment


def test_every_arm_gets_the_whole_grid_and_never_the_test_split():
    study = tuning.tuning_experiment(experiment())
    assert len(study.arms) == 6
    assert list(study.arms)[1] == "b+relu.learning_rate=0p1"
    assert study.arms["b+relu.learning_rate=0p1"] == {
        "model.activation": "relu", "optimizer.learning_rate": 0.1, "evaluation.test": False,
    }  # fmt: skip
    assert study.seeds == (1000, 1001)
    assert study.config("b+relu.learning_rate=0p1", {}, {}).evaluation.test is False


def test_the_best_mean_is_chosen_diverged_runs_score_chance_and_edges_are_flagged(tmp_path):
    tuned_experiment = make_tuning(tmp_path, tanh=(0.5, 0.6, 0.8))
    relu, tanh = tuning.choose(tuned_experiment.tune, tmp_path, list(tuned_experiment.arms))
    assert (relu.point, relu.edges) == ({"optimizer.learning_rate": 0.1}, ())
    assert (tanh.point, tanh.edges) == (
        {"optimizer.learning_rate": 1.0}, ("optimizer.learning_rate",),
    )  # fmt: skip
    tuned = tuning.with_choices(tuned_experiment, [relu, tanh])
    assert tuned.overrides("b.relu")["optimizer.learning_rate"] == 0.1
    assert tuned.config("b.tanh", {}, {}).optimizer.learning_rate == 1.0
    assert tuned.factors == ["model.activation"]


def test_a_diverged_point_scores_chance(tmp_path):
    tuned_experiment = make_tuning(tmp_path)
    _, tanh = tuning.choose(tuned_experiment.tune, tmp_path, list(tuned_experiment.arms))
    assert [round(mean, 3) for _, mean in tanh.means] == [0.5, 0.6, 0.1]


def test_a_point_that_never_finished_is_not_chosen_before_one_that_did(tmp_path):
    """Though chance, 10 %, is above what the others reach."""
    tuned_experiment = make_tuning(tmp_path, tanh=(0.05, 0.06, None))
    _, tanh = tuning.choose(tuned_experiment.tune, tmp_path, list(tuned_experiment.arms))
    assert tanh.point == {"optimizer.learning_rate": 0.1}
    assert tanh.diverged == (0, 0, 2)


def test_nothing_is_chosen_while_tuning_runs_are_missing(tmp_path):
    with pytest.raises(UserError, match="has not been tuned"):
        tuning.choose(experiment().tune, tmp_path, ["b.relu"])
    tuned_experiment = make_tuning(tmp_path)
    workdirs.edit(tmp_path / "tuning", "b+tanh.learning_rate=0p1", 1001, status="failed")
    tuning.choose(tuned_experiment.tune, tmp_path, ["b.relu"])
    with pytest.raises(UserError, match=r"learning_rate=0p1 seed 1001 has no result"):
        tuning.choose(tuned_experiment.tune, tmp_path, ["b.tanh"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tune": Tune({})}, "needs a field with at least two values"),
        ({"tune": Tune({"optimizer.learning_rate": (0.1,)})}, "at least two values"),
        ({"tune": Tune({"optimizer.learning_rate": range(10**9)})}, "are 1,000,000,000; allowed"),
        ({"seeds": (0, 1000)}, "seed 1000 is one of the comparison"),
    ],
)
def test_unfair_tuning_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        experiment(**fields)


def test_a_grid_becomes_plain_values():
    tune = Tune({"optimizer.learning_rate": [np.float64(0.1), 0.2]}, seeds=range(100, 102))
    make_tuning = experiment(tune=tune).tune
    assert make_tuning.seeds == (100, 101)
    assert json.dumps(make_tuning.grid) == '{"optimizer.learning_rate": [0.1, 0.2]}'
    with pytest.raises(UserError, match="5 is not a dotted path"):
        experiment(tune=Tune({5: [1, 2]}))


def test_a_tuned_field_cannot_be_set():
    with pytest.raises(UserError, match="is tuned by experiment e"):
        experiment().config("b.relu", {"optimizer.learning_rate": 0.3}, {})


def test_log_range():
    assert tuning.log_range(0.001, 1, 4) == (0.001, 0.01, 0.1, 1.0)


def test_a_sweep_tunes_then_compares_and_reports_both(tmp_path):
    mine, workdir = tmp_path / "mine.py", tmp_path / "study"
    mine.write_text(
        "from cnnjax.ablation.experiment import Experiment, Tune\n"
        "EXPERIMENT = Experiment(name='t', question='?', seeds=[0, 1],\n"
        "    base={'model.name': 'mlp', 'data.name': 'digits', 'training.steps': 20},\n"
        "    arms={'relu': {'model.activation': 'relu'}, 'tanh': {'model.activation': 'tanh'}},\n"
        "    tune=Tune({'optimizer.learning_rate': (1e-6, 0.05)}, seeds=[7]))\n"
    )
    words = [f"--experiment={mine}", f"--workdir={workdir}"]
    early = program("launch.train", *words, "--arm=relu", check=2)
    assert "has not been tuned; launch.sweep does that first" in early.stderr
    program("launch.sweep", *words, "--workers=1", "--arms=relu", "--seeds=0")
    program("launch.sweep", *words, "--workers=2")  # goes on with another arm and another seed
    for arm in ("relu", "tanh"):
        config = json.loads((workdir / arm / "seed-1" / "config.json").read_text())
        assert config["optimizer"]["learning_rate"] == 0.05
    result = workdir / "tuning" / "relu.learning_rate=0p05" / "seed-7" / "result.json"
    assert json.loads(result.read_text())["test"] is None
    text = (workdir / "report.md").read_text()
    assert "## Tuning" in text
    assert "of the training time" in text
    assert "The settings were chosen on this split" in text
    header = text.index("| Point | relu | tanh |")
    assert text[header:].splitlines()[2].startswith("| optimizer.learning_rate = 1e-06 | ")
    (workdir / "tuning" / "relu.learning_rate=1e-06" / "seed-7" / "result.json").unlink()
    again = program("launch.sweep", *words, "--plan", "--commands")
    assert again.stdout.count("--tuning") == len(again.stdout.splitlines()) == 1
    assert "these tune the arms; when they have ended" in again.stderr
    program("launch.sweep", *words)
    plan = program("launch.sweep", *words, "--plan").stdout.splitlines()
    assert plan.index("tuning") < plan.index("the comparison")
    assert sum("0 of them to be done" in line for line in plan) == 2
    taken = program("launch.sweep", *words, "--seeds=5-8", check=2)
    assert "--seeds: 7 is one that experiment t tunes its arms with" in taken.stderr
    mine.write_text(mine.read_text().replace("(1e-6, 0.05)", "(1e-6, 0.05, 0.5)"))
    wider = program("launch.sweep", *words, check=2)
    assert "all arms of a study choose from one grid" in wider.stderr
    assert (workdir / "figures" / "tuning.svg").is_file()
    assert not json.loads((workdir / "study.json").read_text())["looks_at_test"]
    report.write(workdir)
