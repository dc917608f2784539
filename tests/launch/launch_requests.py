"""What tests of groups of runs, and of what becomes of them, share."""

import json
from pathlib import Path

from cnnjax.ablation import study
from cnnjax.metric import CLASSIFICATION

LOADED = {"levels": {}, "path": Path("mine.py"), "metrics": CLASSIFICATION}


class Request:
    """As much of a request as is needed."""

    replicates = steps_per_call = profile = devices = None
    seeds = range(20)

    def __init__(self, **configs):
        self.configs = configs
        self.loaded = type("Loaded", (), LOADED)


def runs(folder, arms, seeds=3):
    return study.runs(folder, arms, range(seeds))


def sweep(**configs):
    """A request of a sweep that trains three seeds together."""
    request = Request(**configs)
    request.replicates, request.max_minutes = 3, None
    request.loaded.experiment = type("Experiment", (), {"probes": ()})
    return request


def lanes(*seeds, arm="a"):
    return tuple((arm, seed) for seed in seeds)


def begin(run, **runtime):
    """Makes a run look begun, with a checkpoint."""
    (run.directory / "checkpoints" / "7").mkdir(parents=True)
    machine = {"backend": "cpu", "device_kind": "cpu", "devices": 1, "threads": 1}
    known = {**machine, "convolution": "xla", "replicates": "together", **runtime}
    (run.directory / "runtime.json").write_text(json.dumps(known))
