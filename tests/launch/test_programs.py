"""The programs as a user starts them: a whole small study, and what can go wrong."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from common import ROOT, program

EXPERIMENT = """
from cnnjax.ablation.experiment import Experiment

def mine(x):
    import jax.numpy as jnp
    return jnp.maximum(x, 0.1 * x)

def broken(x):
    raise ValueError("broken on purpose,\\n  in two lines")

def constructor(make, classes, image_shape):
    raise TypeError("no")

LEVELS = {
    "activation": {"mine": mine, "broken": broken}, "model": {"constructor": constructor},
}
EXPERIMENT = Experiment(
    name="own",
    question="Is <b>mine</b> better than relu?",
    base={
        "model.name": "mlp", "model.hidden": (12,), "data.name": "digits",
        "training.batch_size": 50, "training.steps": 24, "evaluation.every_epochs": 0.5,
        "optimizer.learning_rate": 0.1,
    },
    arms={
        "relu": {}, "mine": {"model.activation": "mine"}, "broken": {"model.activation": "broken"},
        "constructor": {"model.name": "constructor"},
    },
    seeds=(0, 1),
)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def study(mine, tmp_path_factory):
    """A finished sweep of two arms with two seeds, by two processes."""
    workdir = tmp_path_factory.mktemp("study") / "w"
    done = program(
        "launch.sweep", f"--experiment={mine}", f"--workdir={workdir}", "--arms=relu,mine",
        "--workers=2",
    )  # fmt: skip
    return workdir, done


def result(workdir, arm, seed):
    return json.loads((workdir / arm / f"seed-{seed}" / "result.json").read_text())


def test_a_sweep_leaves_results_and_a_report_and_says_where(study):
    workdir, done = study
    assert "4 of 4 runs have ended (0 diverged), 0 failed" in done.stdout
    assert f"report: {workdir}/report.html" in done.stdout
    assert "[4/4]" in done.stdout
    with open(workdir / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["arm", "block", "seed", "status"]
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("relu", "0"), ("relu", "1"), ("mine", "0"), ("mine", "1"),
    ]  # fmt: skip
    assert {row["model.activation"] for row in rows} == {"relu", "mine"}
    page = (workdir / "report.html").read_text()
    assert "Is &lt;b&gt;mine&lt;/b&gt; better than relu?" in page
    assert (workdir / "report.md").exists()
    assert result(workdir, "mine", 1)["runtime"]["threads"] == 1


def test_finished_runs_are_skipped_and_more_seeds_extend(study, mine):
    workdir, _ = study
    before = (workdir / "relu/seed-0/result.json").stat().st_mtime_ns
    done = program(
        "launch.sweep", f"--experiment={mine}", f"--workdir={workdir}", "--arms=relu",
        "--seeds=0-1,5",
    )  # fmt: skip
    assert "2 of 3 runs have ended already" in done.stdout
    assert "[1/1] relu seed 5" in done.stdout
    assert (workdir / "relu/seed-0/result.json").stat().st_mtime_ns == before
    known = json.loads((workdir / "study.json").read_text())
    assert known["seeds"] == [0, 1, 5]
    assert len(known["extensions"]) == 2


def test_train_and_sweep_give_the_same_bits(study, mine, tmp_path):
    workdir, _ = study
    program(
        "launch.train", f"--experiment={mine}", "--arm=mine", "--seeds=1",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert (
        result(tmp_path, "mine", 1)["params_digest"]
        == (result(workdir, "mine", 1)["params_digest"])
    )


def test_evaluate_gives_the_figures_of_the_run(study, mine, tmp_path):
    workdir, _ = study
    output = tmp_path / "figures.json"
    done = program(
        "launch.evaluate", f"--workdir={workdir}", "--arm=mine", "--seeds=0-1",
        f"--output={output}", f"--experiment={mine}",
    )  # fmt: skip
    figures = json.loads(output.read_text())
    assert len(figures["runs"]) == 2
    for seed, found in enumerate(figures["runs"]):
        known = result(workdir, "mine", seed)["test"]
        assert found["accuracy"] == known["accuracy"]
        assert found["loss"] == pytest.approx(known["loss"], rel=1e-6)
        assert found["examples"] == 450
    assert list(figures) == ["arms", "runs"]  # over arms there is no mean that means anything
    mean = figures["arms"]["mine"]
    assert mean["accuracy"] == np.mean([run["accuracy"] for run in figures["runs"]])
    assert (mean["runs"], mean["examples"]) == (2, 450)
    assert "450 examples" in done.stdout
    assert (workdir / "mine/seed-0/evaluation-test-24.json").exists()
    study_of_one = tmp_path / "study"
    shutil.copytree(workdir, study_of_one)
    about = json.loads((study_of_one / "study.json").read_text())
    (study_of_one / "study.json").write_text(json.dumps(about | {"seeds": [0, 1, 5]}))
    shutil.rmtree(study_of_one / "mine/seed-1/checkpoints")
    (study_of_one / "mine/seed-1/checkpoints").mkdir()
    done = program(
        "launch.evaluate", f"--workdir={study_of_one}", "--arm=mine", f"--output={output}",
        f"--experiment={mine}", check=1,
    )  # fmt: skip
    left_out = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 2
    assert left_out[0].endswith("mine/seed-5: holds no checkpoints.")
    figures = json.loads(output.read_text())
    assert figures["arms"]["mine"]["runs"] == 1
    assert [run["run"] for run in figures["runs"]] == [str(study_of_one / "mine/seed-0")]


def test_evaluate_one_run_at_its_best_step_and_weights_without_a_run(study, tmp_path):
    workdir, _ = study
    run, output = workdir / "relu/seed-0", tmp_path / "figures.json"
    words = ("--split=validation", "--step=best", f"--output={output}")
    program("launch.evaluate", f"--workdir={run}", *words)
    found = json.loads(output.read_text())
    assert found["accuracy"] == result(workdir, "relu", 0)["best_validation"]["accuracy"]
    program("launch.evaluate", f"--init_from={run}", f"--output={output}", "data.name=digits")
    found = json.loads(output.read_text())
    assert found["accuracy"] == result(workdir, "relu", 0)["test"]["accuracy"]
    fewer = ("data.train_examples=10", f"--output={output}", "--split=train")  # than a batch
    program("launch.evaluate", f"--init_from={run}", *fewer)
    assert json.loads(output.read_text())["examples"] == 10


def test_evaluate_writes_through_no_link(study, tmp_path):
    workdir, _ = study
    linked = tmp_path / "linked"
    shutil.copytree(workdir, linked)
    (linked / "relu/seed-0").rename(tmp_path / "elsewhere")
    (linked / "relu/seed-0").symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").iterdir())
    words = ("launch.evaluate", f"--workdir={linked}", "--arm=relu", "--split=train")
    assert "relu/seed-0: is a link to" in program(*words, check=2).stderr
    assert sorted((tmp_path / "elsewhere").iterdir()) == before


def test_a_study_never_makes_evaluate_run_a_file(study, mine):
    workdir, _ = study
    done = program("launch.evaluate", f"--workdir={workdir}", "--arm=mine", check=2)
    assert "'mine' is not valid" in done.stderr
    assert f"add --experiment={mine}" in done.stderr


def test_report_rebuilds_what_was_deleted(study):
    workdir, _ = study
    (workdir / "report.html").unlink()
    program("launch.report", f"--workdir={workdir}")
    assert (workdir / "report.html").exists()


def test_a_torn_result_is_made_again_with_the_same_bits(study, mine, tmp_path):
    workdir, _ = study
    known = result(workdir, "relu", 1)
    (workdir / "relu/seed-1/result.json").write_text('{"status": "fin')
    program("launch.sweep", f"--experiment={mine}", f"--workdir={workdir}", "--arms=relu")
    assert result(workdir, "relu", 1)["params_digest"] == known["params_digest"]
    assert result(workdir, "relu", 1)["test"] == known["test"]


def test_a_run_that_fails_is_reported_the_others_go_on_and_it_is_retried(mine, tmp_path):
    words = ("launch.sweep", f"--experiment={mine}", f"--workdir={tmp_path}", "--seeds=0")
    done = program(*words, "--arms=relu,broken", check=1)
    told = "[1/2] broken seed 0: FAILED: mine.py, line 9: ValueError: broken on pur"
    assert told in done.stdout
    assert "[2/2] relu seed 0: validation" in done.stdout
    assert "1 of 2 runs have ended (0 diverged), 1 failed" in done.stdout
    assert result(tmp_path, "broken", 0)["status"] == "failed"
    assert "Traceback" in (tmp_path / "broken/seed-0/error.txt").read_text()
    assert result(tmp_path, "relu", 0)["status"] == "finished"
    again = program(*words, "--arms=relu,broken", "--workers=2", check=1)
    assert "[1/1] broken seed 0: FAILED" in again.stdout
    alone = program(
        "launch.train", f"--experiment={mine}", "--arm=constructor", "--seeds=0",
        f"--workdir={tmp_path / 'w'}", check=1,
    )  # fmt: skip
    assert not alone.stderr
    assert "[1/1] constructor seed 0: FAILED: mine.py, line 12: TypeError: no" in alone.stdout


@pytest.mark.parametrize(
    ("pipeline", "model", "threads"), [("memory", "lenet5_modern", 2), ("stream", "mlp", 1)]
)
def test_killed_at_any_moment_and_started_again_ends_with_the_same_bits(
    mine, tmp_path, pipeline, model, threads
):
    """With the native operations too, where they exist: convolution, pooling, batch norm. The last
    time it is asked to end."""
    words = [
        "launch.train", f"--experiment={mine}", "--arm=relu", "--seeds=3",
        "--set=training.steps=150", "--set=checkpointing.every_steps=10",
        "--set=training.log_every_steps=5", "--set=model.dropout.keep_prob=0.9",
        f"--set=data.pipeline={pipeline}", f"--set=model.name={model}",
        "--set=model.norm.kind=batch", "--set=model.hidden=null", f"--threads={threads}",
    ]  # fmt: skip
    program(*words, f"--workdir={tmp_path / 'whole'}")
    parts = [sys.executable, "-m", *words, f"--workdir={tmp_path / 'parts'}"]
    checkpoints = tmp_path / "parts/relu/seed-3/checkpoints"
    killed = 0
    for least, how in ((1, signal.SIGKILL), (40, signal.SIGKILL), (80, signal.SIGTERM)):
        process = subprocess.Popen(
            parts, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None:
            steps = [int(path.name) for path in checkpoints.glob("[0-9]*") if path.name.isdigit()]
            if max(steps, default=0) >= least:
                process.send_signal(how)
                killed += 1
                break
            time.sleep(0.002)
        _, told = process.communicate()
    assert killed == 3
    assert process.returncode == 75
    stopped = re.search(r"stopped by SIGTERM at step (\d+) of 150; the same command goes on", told)
    done = program(*words, f"--workdir={tmp_path / 'parts'}")
    assert f"resumed: relu seed 3 at step {stopped[1]} of 150" in done.stdout
    whole, again = (result(tmp_path / name, "relu", 3) for name in ("whole", "parts"))
    assert again["params_digest"] == whole["params_digest"]
    assert again["test"] == whole["test"]

    def figures(name):
        text = (tmp_path / name / "relu/seed-3/metrics.jsonl").read_text()
        return [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_second")}
            for line in text.splitlines()
        ]

    assert figures("parts") == figures("whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("launch.train", "--experiment=quikstart", "--arm=relu"), "Did you mean 'quickstart'"),
        (("launch.train", "--experiment=quickstart"), "--arm: is missing; the arms are relu"),
        (("launch.train", "--experiment=quickstart", "--arm=relo"), "Did you mean 'relu'"),
        (("launch.sweep", "--experiment=quickstart", "--arms=relu,relu"), "'relu' is given twice"),
        (("launch.train", "--experiment=quickstart", "--arm=relu,relu"), "--arm: 'relu' is given"),
        (("launch.sweep", "--experiment=quickstart", "--seeds=1,1"), "seed 1 is given twice"),
        (("launch.sweep", "--experiment=quickstart", "--seeds=a"), "write 0,1,2 or 0-9"),
        (("launch.sweep", "--experiment=quickstart", "--seeds=0-999999999"), "more than 10,000"),
        (("launch.sweep", "--experiment=quickstart", "--sedes=1"), "Did you mean: seeds"),
        (("launch.sweep", "--experiment=quickstart", "--workers=0"), "workers"),
        (("launch.sweep", "--experiment=quickstart", "--set=training.epochs"), "write path=value"),
        (("launch.sweep", "--experiment=quickstart", "--set=model.dropout.keep_prob=0"), "above 0"),
        (("launch.sweep", "--experiment=quickstart", "--set=model.name=x"), "allowed: mlp, lenet5"),
        (("launch.sweep", "--experiment=quickstart", "--set=model.activation=elu"), "varied by"),
        (("launch.sweep", "--experiment=quickstart", "--seeds=5-2"), "5-2 is reversed; write 2-5."),
        (("launch.train", "--experiment=quickstart", "--workers=2"), "launch.sweep takes it."),
        (("launch.train", "--experiment=quickstart", "--threads=1e20"), "a whole number, 1 to 4,"),
        (("launch.sweep", "--experiment=nowhere.py"), "no file nowhere.py"),
        (("launch.sweep", "--experiment=quickstart", "--data_dir=nowhere"), "no folder nowhere"),
        (("launch.evaluate",), "holds no study"),
        (("launch.report",), "holds no study"),
        (("launch.evaluate", "--split=tset"), "Did you mean 'test'"),
        (("launch.evaluate", "--step=first"), "write a step, best or last"),
        (("launch.evaluate", "--output=/"), "--output: / is a folder; name a file"),
        (("launch.evaluate", "--step=²"), "write a step, best or last"),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else value,
)  # fmt: skip
def test_mistakes_are_answered_in_a_line_with_code_2(tmp_path, words, message):
    done = program(*words, f"--workdir={tmp_path / 'w'}", check=2)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "w" / "study.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("training.batch_size=5000", "training.batch_size: 5000 is larger than the 1212 training"),
        ("data.train_examples=9999", "1212"),
        ("data.name=digitz", "digitz"),
        ("data.name=folder:/nowhere", "/nowhere"),
        ("model.name=inception_v3", "the smallest size that works is 75"),
        ("data.augmentation.shift_pixels=32", "32 is beyond the images, which are 32 x 32; allow"),
    ],
)
def test_what_the_data_does_not_allow_is_said_before_anything_is_written(
    tmp_path, changes, message
):
    done = program(
        "launch.sweep", "--experiment=quickstart", f"--workdir={tmp_path / 'w'}",
        f"--set={changes}", check=2,
    )  # fmt: skip
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "w").exists()


def test_a_mistake_leaves_what_was_there(study):
    workdir, _ = study
    before = sorted(path.name for path in workdir.iterdir())
    done = program(
        "launch.sweep", "--experiment=quickstart", f"--workdir={workdir}", check=2,
    )  # fmt: skip
    assert "belongs to" in done.stderr
    assert sorted(path.name for path in workdir.iterdir()) == before


def test_the_plan_says_in_a_line_which_arm_cannot_be_built(mine, tmp_path):
    words = (f"--experiment={mine}", f"--workdir={tmp_path / 'w'}", "--arms=relu,broken,mine")
    done = program("launch.sweep", *words, "--plan")
    first, second, *_ = done.stdout.splitlines()
    reason = "mine.py, line 9: ValueError: broken on purpose, in two lines"
    assert first == f"arm 'broken' cannot be built, and its runs will fail: {reason}"
    assert second == "2 arms x 2 seeds = 4 runs, 4 of them to be done"
    assert not (tmp_path / "w").exists()


PICTURES = """
from cnnjax.ablation.experiment import Experiment
EXPERIMENT = Experiment(
    name="pictures", question="?",
    base={"model.name": "mlp", "model.hidden": [8], "data.name": "folder:PLACE",
          "training.steps": 4, "training.batch_size": 8},
    arms={"relu": {}, "gelu": {"model.activation": "gelu"}},
    seeds=(0,),
)
"""


def test_data_that_have_changed_since_a_run_are_refused_naming_what_changed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 6), np.uint8)
    for label, images in enumerate(pixels):
        (tmp_path / "pictures" / f"class{label}").mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "pictures" / f"class{label}" / f"{number}.png")
    (tmp_path / "mine.py").write_text(PICTURES.replace("PLACE", str(tmp_path / "pictures")))
    words = f"--experiment={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'w'}"
    program("launch.train", *words, "--arm=relu")
    for label in (2, 3):
        shutil.rmtree(tmp_path / "pictures" / f"class{label}")
    before = (tmp_path / "w" / "study.json").read_bytes()
    done = program("launch.sweep", *words, check=2)
    assert "class_names 'class0, class1, class2, class3' -> 'class0, class1'" in done.stderr
    assert "examples.train 32 -> 16" in done.stderr
    assert (tmp_path / "w" / "study.json").read_bytes() == before
    assert not (tmp_path / "w" / "gelu").exists()
    done = program("launch.evaluate", f"--workdir={tmp_path / 'w/relu/seed-0'}", check=2)
    assert "was started on other data (class_names" in done.stderr


def test_a_changed_configuration_and_another_experiment_are_refused(study, mine):
    workdir, _ = study
    before = (workdir / "study.json").read_bytes()
    done = program(
        "launch.sweep", f"--experiment={mine}", f"--workdir={workdir}", "--set=training.steps=9",
        check=2,
    )  # fmt: skip
    assert "training.steps 24 -> 9" in done.stderr
    done = program("launch.sweep", "--experiment=quickstart", f"--workdir={workdir}", check=2)
    assert "belongs to experiment 'own', not 'quickstart'" in done.stderr
    assert (workdir / "study.json").read_bytes() == before


def test_a_step_that_is_not_there_lists_those_that_are(study):
    workdir, _ = study
    done = program("launch.evaluate", f"--workdir={workdir / 'relu/seed-0'}", "--step=7", check=2)
    assert "no checkpoint of step 7" in done.stderr
    assert "there are" in done.stderr
    assert "24" in done.stderr


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "w").write_text("")
    done = program(
        "launch.sweep", "--experiment=quickstart", f"--workdir={tmp_path / 'w'}", check=2
    )
    assert "is not a folder" in done.stderr


def test_help_lists_the_experiments_with_their_questions_and_a_flagfile_works(tmp_path):
    assert "quickstart (6 arms x 8 seeds)" in program("launch.sweep", "--experiment=help").stdout
    (tmp_path / "flags").write_text("--experiment=help\n")
    done = program("launch.train", f"--flagfile={tmp_path / 'flags'}")
    assert "Does batch norm rescue" in done.stdout
    told = program("launch.train", "--help", check=1).stdout
    assert "--data_dir: A folder with data sets" in told
    assert "--set: A field and its value" in told
    assert "--workers" not in told


def test_a_damaged_checkpoint_is_told_in_one_line(mine, tmp_path):
    words = (f"--experiment={mine}", f"--workdir={tmp_path}", "--arm=relu", "--seeds=0")
    assert program("launch.train", *words).returncode == 0
    run = tmp_path / "relu" / "seed-0"
    before = json.loads((run / "result.json").read_text())["params_digest"]
    (run / "result.json").unlink()
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in (newest / "state" / "d").iterdir():
        file.unlink()
    again = program("launch.train", *words)
    assert again.returncode == 0
    assert "going back to the one before" in again.stdout
    assert "Traceback" not in again.stdout + again.stderr
    assert json.loads((run / "result.json").read_text())["params_digest"] == before
