"""A question on the command line: the experiment it defines, its errors, and its plan."""

import dataclasses
import json
from pathlib import Path

import pytest

from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError
from common import program
from launch import question

RATE = "optimizer.learning_rate=0.01,0.1"
PLACE = "model.norm.placement=before,after"
NETS = "model.name=vgg_small,resnet20"


def ask(base, vary, on, seeds=None, **changes):
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    return question.ask(base, vary, on, changes=dotted, seeds=seeds)


def defined(text):
    """The experiment that a file defines."""
    names: dict = {}
    exec(text, names)
    experiment = names["EXPERIMENT"]
    assert isinstance(experiment, Experiment)
    return experiment


def test_a_question_is_an_experiment_and_its_file_defines_the_same():
    asked = ask("quickstart", [PLACE, RATE], [NETS], [5, 3], model__hidden=[8], training__epochs=2)
    experiment = asked.experiment
    assert list(experiment.arms)[:3] == [
        "vgg_small.before_0p01", "vgg_small.before_0p1", "vgg_small.after_0p01",
    ]  # fmt: skip
    assert len(experiment.arms) == 8
    assert experiment.base["data.name"] == "digits"
    assert not {"model.name", "optimizer.learning_rate"} & set(experiment.base)
    assert (experiment.base["model.hidden"], experiment.seeds) == ([8], (5, 3))
    assert defined(asked.text([5, 3])) == experiment
    assert defined(asked.text([3, 5, 9])) == dataclasses.replace(experiment, seeds=(3, 5, 9))


def test_fields_of_set_win_over_those_of_weights_to_start_from():
    asked = ask(None, [RATE], [], transfer__init_from="w", model__norm__kind="layer")
    assert asked.experiment.arms["0p1"]["model.norm.kind"] == "layer"
    assert asked.experiment.base["transfer.init_from"] == str(Path("w").absolute())
    assert defined(asked.text(asked.experiment.seeds)) == asked.experiment
    assert asked.experiment.factors == ["optimizer.learning_rate"]


def test_folders_of_images_are_absolute_in_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ask(None, ["data.name=folder:a,folder:b,digits"], [])
    levels = [arm["data.name"] for arm in asked.experiment.arms.values()]
    assert levels == [f"folder:{tmp_path}/a", f"folder:{tmp_path}/b", "digits"]


def test_levels_may_be_lists_numbers_and_null():
    experiment = ask(None, ["model.hidden=[8,8],[16],null"], []).experiment
    assert [arm["model.hidden"] for arm in experiment.arms.values()] == [[8, 8], [16], None]
    assert list(experiment.arms) == ["8-8", "16", "null"]


def test_arms_of_folders_are_called_by_their_last_parts():
    """Where these are enough: names of arms are published, paths of the machine are not."""
    experiment = ask(None, ["data.name=folder:/home/me/cats,folder:/home/me/dogs"], []).experiment
    assert list(experiment.arms) == ["cats", "dogs"]
    experiment = ask(None, ["data.name=folder:/a/cats,folder:/b/cats"], []).experiment
    assert list(experiment.arms) == ["folder-a-cats", "folder-b-cats"]


@pytest.mark.parametrize(
    ("base", "vary", "on", "message"),
    [
        (None, ["model.activation"], [], "write path=level,level with at least two levels"),
        (None, ["model.activation=relu"], [], "at least two levels"),
        (None, [PLACE], ["model.name="], "with at least a level"),
        (None, [PLACE, PLACE], [], "is given twice"),
        (None, ["model.activation=relu,relu"], [], "a level is given twice"),
        (None, [PLACE], [PLACE], "is varied by --vary already"),
        ("quikstart", [PLACE], [], "--base: unknown 'quikstart'. Did you mean 'quickstart'"),
    ],
)
def test_invalid_questions_are_errors(base, vary, on, message):
    with pytest.raises(UserError) as caught:
        ask(base, vary, on)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary=model.activatoin=relu,tanh"], "did you mean model.activation"),
        (["--vary=model.activation=relu,tanhh"], "did you mean tanh"),
        ([f"--on={NETS}"], "--vary: is missing"),
        (["--vary=model.activation=relu,tanh", "--experiment=mnist"], "leave one of them out"),
        (["--vary=model.activation=relu,tanh", "--set=model.activation=elu"], "varied by --vary"),
        (["--vary=model.activation=relu,tanh", "--set=model.dropot=1"], "error: model.dropot: unk"),
        (["--experiment=mnist", "--commands"], "--commands: goes with --plan"),
        (["--experiment=mnist", "--plan", "--jobs=2"], "--jobs: goes with --plan --commands"),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path, words, message):
    done = program("launch.sweep", *words, f"--workdir={tmp_path / 'w'}", check=2)
    assert message in done.stderr
    assert not (tmp_path / "w").exists()


def test_a_file_of_the_users_own_is_left_alone(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text("mine")
    words = ["--vary=model.activation=relu, tanh", "--base=quickstart", f"--workdir={tmp_path}"]
    for more in ([], ["--plan"]):
        done = program("launch.sweep", *words, *more, check=2)
        assert "experiment.py is a file of your own" in done.stderr
    assert path.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [path]


def test_equal_levels_are_refused(tmp_path):
    words = ["--vary=optimizer.learning_rate=0.1,1e-1", f"--workdir={tmp_path}"]
    done = program("launch.sweep", *words, check=2)
    assert "is the same as arm" in done.stderr


def test_from_a_question_to_a_plan_to_commands_to_a_report(tmp_path):
    words = [
        "--vary=model.activation=relu,tanh", "--base=quickstart", "--seeds=0,1",
        f"--workdir={tmp_path}", "--examples=640", "training.batch_size=64",
    ]  # fmt: skip
    again = [word for word in words if not word.startswith("--seeds")]
    planned = program("launch.sweep", *words, "--plan")
    assert f"the question is kept as {tmp_path / 'experiment.py'}" in planned.stderr
    plan = planned.stdout
    assert "2 arms x 2 seeds = 4 runs, 4 of them to be done" in plan
    assert "groups that share a program: 2" in plan
    assert "permutation test: 0.5" in plan
    assert not (tmp_path / "study.json").exists()
    more = ("--plan", "--commands", "--jobs=4")
    commands = program("launch.sweep", *words, *more).stdout.splitlines()
    assert len(commands) == 4, "of two programs"
    for command in commands:
        python, _, name, *rest = command.replace("'", "").split()
        assert python == "python"
        program(name, *rest)
    done = program("launch.sweep", *words).stdout
    assert "4 of 4 runs have ended already" in done
    result = json.loads((tmp_path / "tanh/seed-1/result.json").read_text())
    assert result["steps"] == 10
    assert "What does model.activation (relu, tanh) do?" in (tmp_path / "report.md").read_text()
    kept = json.loads((tmp_path / "study.json").read_text())
    assert kept["source"]["path"] == str(tmp_path / "experiment.py")
    file = (tmp_path / "experiment.py").read_text()
    assert "'training.max_examples': 640," in file
    assert "'training.batch_size': 64," in file
    assert "seeds=(0, 1)," in file
    words = [f"--experiment={tmp_path / 'experiment.py'}", f"--workdir={tmp_path}"]
    planned = program("launch.sweep", *words, "--plan").stdout
    assert "2 arms x 2 seeds = 4 runs, 0 of them to be done" in planned
    program("launch.sweep", *again, "--seeds=2", "--plan")
    assert (tmp_path / "experiment.py").read_text() == file, "a plan changes no study's question"
    program("launch.sweep", *again, "--seeds=2", "--plan", "--commands")
    assert "seeds=(0, 1, 2)," in (tmp_path / "experiment.py").read_text()


def test_a_question_about_another_task_is_checked_against_the_data_before_anything_starts(tmp_path):
    words = ["--vary=model.decoder=nearest,bilinear", "--set=task=segmentation"]
    workdir = tmp_path / "w"
    done = program(
        "launch.sweep", *words, "--set=model.name=resnet8", f"--workdir={workdir}", check=2
    )
    assert "arm 'nearest': data.name: 'digits' has the targets label, but" in done.stderr
    assert "starting" not in done.stdout
    assert not workdir.exists() or not any(workdir.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--vary=data.image_size=8,32", "--set=model.name=vgg11", "--set=model.width=0.02"),
            "data.image_size: 8x8 is too small for model.name=vgg11",
        ),
        (("--vary=training.batch_size=16,5000",), "training.batch_size: 5000 is larger than"),
    ],
    ids=["size", "batch"],
)
@pytest.mark.parametrize("more", [(), ("--workers=2",), ("--workers=1",), ("--plan",)])
def test_an_arm_that_cannot_be_trained_is_told_before_anything_is_written(
    tmp_path, words, message, more
):
    workdir = tmp_path / "w"
    done = program("launch.sweep", *words, *more, f"--workdir={workdir}", check=2)
    assert message in done.stderr
    assert "starting" not in done.stdout
    kept = {path.name for path in workdir.iterdir()} if workdir.exists() else set()
    assert kept <= {".sweep.lock"}
