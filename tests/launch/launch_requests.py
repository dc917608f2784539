"""Helpers of tests of requests, groups of runs and processes."""

import json
from pathlib import Path

from cnnjax.ablation import study
from cnnjax.ablation.experiment import Experiment
from cnnjax.metric import CLASSIFICATION
from common import small
from experiments import ExperimentFile
from launch.request import Request
from launch.training import TrainingSetup


def training(configs, levels=None, path=Path("mine.py"), **fields):
    """Training of classification, without probes."""
    return TrainingSetup(configs, CLASSIFICATION, (), levels or {}, path, **fields)


def request(workdir, arms=("a",), seeds=range(2), claims=(), **fields):
    """A request for runs of an experiment whose arms have small networks, unless
    `arms` has their configurations."""
    experiment = Experiment(
        name="asked",
        question="?",
        base={"data.name": "digits"},
        arms={arm: {"model.width": 1 + index} for index, arm in enumerate(arms)},
        seeds=seeds,
        claims=claims,
    )
    path = Path("mine.py")
    configs = arms if isinstance(arms, dict) else dict.fromkeys(arms, small())
    loaded = ExperimentFile(experiment, {}, path)
    return Request("mine.py", loaded, training(configs, path=path, **fields), seeds, {}, workdir)


def runs(folder, arms, seeds=3):
    return study.runs(folder, arms, range(seeds))


def axis(*seeds, arm="a"):
    return tuple((arm, seed) for seed in seeds)


def start(run, **runtime):
    """Writes the files of a run that was started and has a checkpoint."""
    (run.directory / "checkpoints" / "7").mkdir(parents=True)
    machine = {"backend": "cpu", "device_kind": "cpu", "devices": 1, "threads": 1}
    settings = {**machine, "convolution": "xla", "replicas": "together", **runtime}
    (run.directory / "runtime.json").write_text(json.dumps(settings))
