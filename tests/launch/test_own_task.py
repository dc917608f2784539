"""A task of the user's own goes through every program without a change in cnnjax."""

import json
import re

import numpy as np
import pytest

import experiments
from cnnjax.ablation import reading
from cnnjax.ablation.example_values import ExampleValues
from cnnjax.ablation.verdicts import findings
from cnnjax.errors import UserError
from cnnjax.metric import Metric
from cnnjax.tasks.task import Task
from cnnjax.train.session import Session
from common import ROOT, program

INK = '''
import jax.numpy as jnp
import numpy as np

from cnnjax.ablation.claims import better, chance_level
from cnnjax.ablation.experiment import Experiment
from cnnjax.metric import Metric
from cnnjax.tasks.task import Task


def ink(images, targets):
    """The mean brightness of an image, in percent."""
    return {"ink": 100 * jnp.asarray(images, jnp.float32).mean((1, 2, 3)) / 255}


def error(outputs, targets):
    return outputs[:, 0] - targets["ink"]


def constant(targets):
    apart = np.abs(targets["ink"] - np.median(targets["ink"]))
    return {"absolute_error": float(apart.mean()), "worst": float(apart.max())}


TASK = Task(
    metrics=(
        Metric("absolute_error", "gray", higher_is_better=False, ends=(0.0, 100.0)),
        Metric("worst", "gray", higher_is_better=False, kind="corpus"),
    ),
    num_outputs=lambda spec: 1,
    targets=ink,
    loss=lambda outputs, targets, label_smoothing: error(outputs, targets) ** 2,
    statistics=lambda outputs, targets: {"absolute_error": jnp.abs(error(outputs, targets))},
    figures=lambda statistics: {"worst": float(statistics["absolute_error"].max())},
    constant=constant,
)

LEVELS = {"task": {"ink": TASK}}

EXPERIMENT = Experiment(
    name="ink",
    question="Does a network see how much ink there is?",
    base={
        "task": "ink",
        "model.name": "mlp",
        "model.hidden": [16],
        "optimizer.name": "adam",
        "training.batch_size": 50,
        "training.steps": 60,
        "evaluation.every_epochs": 1,
    },
    arms={"slow": {"optimizer.learning_rate": 1e-5}, "fast": {"optimizer.learning_rate": 0.01}},
    seeds=range(4),
    claims=[
        better("fast", "slow", by=1),
        chance_level("slow", share=0.5),
        better("fast", "slow", metric="worst"),
        better("fast", "slow", metric="steps_to(5)"),
        better("slow", "fast", metric="loss"),
    ],
    probes=["activity", "gradients"],
)
'''


(CODE,) = re.findall(
    r"```python\n# ink\.py.*?\n(.*?)```", (ROOT / "docs/own_tasks.md").read_text(), re.DOTALL
)
"""The example of the documentation."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The file, and a workdir that `launch.sweep` has made of it."""
    folder = tmp_path_factory.mktemp("ink")
    file, workdir = folder / "ink.py", folder / "w"
    file.write_text(INK.replace('        better("slow", "fast", metric="loss"),\n', ""))
    done = program(
        "launch.sweep", f"--experiment={file}", f"--workdir={workdir}", "--workers=1"
    )  # fmt: skip
    return file, workdir, done.stdout


def test_runs_are_trained_and_told_by_its_metric(study):
    _, workdir, said = study
    assert "8 of 8 runs have ended (0 diverged), 0 failed" in said
    fast, slow = (
        [
            float(value)
            for value in re.findall(rf"{arm} seed \d: validation [a-z ]+ (\S+) gray \(", said)
        ]
        for arm in ("fast", "slow")
    )
    assert len(fast) == len(slow) == 4
    assert max(fast) < min(slow)
    result = json.loads((workdir / "fast/seed-0/result.json").read_text())
    assert set(result["test"]) == {"absolute_error", "worst", "examples"}
    assert set(result["chance"]["test"]) == {"absolute_error", "worst", "examples"} - {"examples"}
    assert result["best_validation"].keys() == {"step", "epoch", "absolute_error", "worst"}
    lines = (workdir / "fast/seed-0/metrics.jsonl").read_text().splitlines()
    assert {"loss", "absolute_error"} <= json.loads(lines[0]).keys()


def test_its_figures_are_those_of_the_predictions(study):
    _, workdir, _ = study
    kept = np.load(workdir / "fast/seed-1/predictions_test.npz")
    result = json.loads((workdir / "fast/seed-1/result.json").read_text())["test"]
    assert kept["outputs"].shape == (450, 1)
    assert result["absolute_error"] == pytest.approx(kept["outcome"].mean(dtype=np.float64))
    assert result["worst"] == pytest.approx(kept["outcome"].max())
    loaded = reading.load(workdir, "test")
    run = next(run for run in loaded.runs if run.path == "fast/seed-1")
    ids, values = ExampleValues(loaded, loaded.primary).of_run(run)
    np.testing.assert_array_equal(values, kept["outcome"])
    assert len(ids) == 450


def test_its_claims_are_judged_and_its_report_speaks_of_it(study):
    _, workdir, _ = study
    done = program("launch.report", f"--workdir={workdir}", "--final")
    assert "Supported: fast beats slow by more than 1 gray." in done.stdout
    found = findings(reading.load(workdir, "test"))[0].evidence.comparisons[0]
    assert found.population.low <= found.paired.low < found.paired.high <= found.population.high
    assert found.paired.low > 1  # which no difference of shares is
    assert "slow stays at chance or diverges in more than 50 % of its runs" in done.stdout
    assert "4 of 4 runs did" in done.stdout
    assert "Supported: fast beats slow in worst." in done.stdout
    assert "fast is below slow in steps to 5 gray validation absolute error" in done.stdout
    text = (workdir / "final/report.md").read_text()
    assert "Measured: absolute error on the test split (450 examples)" in text
    assert "| Arm | Mean (gray) | sd |" in text
    assert "Ahead by (gray)" in text
    assert "accuracy" not in text.lower()
    pictures = (workdir / "final/figures/block-1-seeds.svg").read_text()
    assert "test absolute error (gray)" in pictures


def test_it_is_evaluated(study, tmp_path):
    file, workdir, _ = study
    out = tmp_path / "out.json"
    done = program(
        "launch.evaluate", f"--workdir={workdir}", "--arm=fast", f"--experiment={file}",
        "--split=validation", f"--output={out}",
    )  # fmt: skip
    result = json.loads((workdir / "fast/seed-0/result.json").read_text())["validation"]
    assert f"absolute error {result['absolute_error']:.4f}, worst" in done.stdout
    assert json.loads(out.read_text())["arms"]["fast"].keys() == {
        "absolute_error", "worst", "examples", "runs",
    }  # fmt: skip


def test_that_of_the_documentation_can_be_run(tmp_path):
    file = tmp_path / "ink.py"
    file.write_text(CODE)
    loaded = experiments.load(str(file))
    assert loaded.metrics[0].name == "absolute_error"
    own = Session(levels=loaded.levels)
    for arm in loaded.experiment.arms:
        own.check(loaded.experiment.config(arm, {}, loaded.levels))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("", ""), "claims: better: metric: unknown 'loss'"),
        (('probes=["activity", "gradients"]', 'probes=["shift"]'), "'shift' is for classification"),
        (('"task": "ink"', '"task": "inc"'), "base: task: unknown 'inc'. Did you mean 'ink'?"),
        (('{"ink": TASK}', '{"ink": ink}'), "LEVELS['task']['ink']: is not a Task"),
        (('{"ink": TASK}', '{"classification": TASK}'), "is a built-in name already"),
        (
            ('{"optimizer.learning_rate": 1e-5}', '{"task": "ink"}'),
            "arm 'slow': task: all arms of an experiment have one task; put it into the base",
        ),
    ],
)
def test_mistakes_are_answered_before_anything_starts(tmp_path, change, says):
    file = tmp_path / "ink.py"
    file.write_text(INK.replace(*change))
    with pytest.raises(UserError) as told:
        experiments.load(str(file))
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("outputs[:, 0] - targets", "outputs - targets"), "task 'ink': loss: has the shape"),
        ((".mean((1, 2, 3))", ".mean()"), "task 'ink': targets: ink: has the shape []"),
        (
            ("num_outputs=lambda spec: 1", "num_outputs=lambda spec: 1.5"),
            "task 'ink': num_outputs: 1.5 is not valid",
        ),
        (
            ('return {"absolute_error": float(apart.mean())}', 'return {"mae": 1.0}'),
            "task 'ink': constant: has no number for 'absolute_error'",
        ),
        (
            ('targets: {"absolute_error": jnp', 'targets: {"error": jnp'),
            "task 'ink': statistics: absolute_error: is missing for 64 examples",
        ),
        (('targets["ink"]', 'targets["ik"]'), "'ik'"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_computed_is_told_before_any_step(tmp_path, change, says):
    """As a sweep checks every arm; what it raises fails the runs of the arm."""
    file = tmp_path / "ink.py"
    file.write_text(CODE.replace(*change))
    loaded = experiments.load(str(file))
    config = loaded.experiment.config("relu", {}, loaded.levels)
    with pytest.raises((ValueError, KeyError, UserError)) as told:
        Session(levels=loaded.levels).check(config)
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ((), "is not a non-empty list"),
        ((Metric("a"), Metric("a")), "names must be unique"),
        ((Metric("learning_rate"),), "metric 'learning_rate': name"),
        ((Metric("seconds"),), "metric 'seconds': name: allowed are small letters"),
        ((Metric("Mean error"),), "metric 'Mean error': name"),
        ((Metric("a", kind="run"),), "metric 'a': kind: 'run'; allowed: share, mean, corpus"),
        ((Metric("a", kind="corpus"),), "figures: is missing; 'a' is not a mean over examples"),
        (("accuracy",), "'accuracy' is not a Metric"),
    ],
)
def test_metrics_of_a_task_that_make_no_sense_are_refused(metrics, says):
    with pytest.raises(UserError) as told:
        Task(metrics, num_outputs=len, loss=max, statistics=max, constant=max)
    assert says in str(told.value)


def test_runs_measured_by_other_metrics_are_not_added_to(study, tmp_path):
    file, workdir, _ = study
    other = tmp_path / "ink.py"
    other.write_text(file.read_text().replace('"gray"', '"percent"'))
    done = program("launch.sweep", f"--experiment={other}", f"--workdir={workdir}", check=2)
    assert "has runs measured by other metrics" in done.stderr
