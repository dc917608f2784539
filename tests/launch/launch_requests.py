"""Helpers of tests of requests, groups of runs and processes."""

import json
from pathlib import Path

from cnnjax.ablation import study
from cnnjax.ablation.experiment import Experiment
from common import small
from experiments import ExperimentFile
from launch.request import Request


def training(configs, levels=None, path=Path("mine.py"), **fields):
    """A request for training with these configurations, whose runs are given elsewhere."""
    return request(Path("nowhere"), configs, levels=levels, path=path, **fields)


def request(
    workdir, arms=("a",), seeds=range(2), claims=(), levels=None, path=Path("mine.py"), **fields
):
    """A request for runs of an experiment whose arms have small networks, unless
    `arms` has their configurations."""
    experiment = Experiment(
        name="asked",
        question="?",
        base={"data.name": "digits"},
        arms={arm: {"model.width": 1 + index} for index, arm in enumerate(arms or ("a",))},
        seeds=seeds,
        claims=claims,
    )
    configs = arms if isinstance(arms, dict) else dict.fromkeys(arms, small())
    loaded = ExperimentFile(experiment, levels or {}, path)
    return Request("mine.py", loaded, configs, seeds, {}, workdir, **fields)


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
