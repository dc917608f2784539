"""Shared by tests: the root of the checkout, a small run, and starting programs."""

import functools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cnnjax.config import RunConfig, override, resolve

ROOT = Path(__file__).resolve().parents[1]

SMALL = {
    "model.name": "mlp",
    "model.hidden": (16,),
    "data.name": "digits",
    "training.batch_size": 50,
    "training.steps": 30,
    "evaluation.every_epochs": 0.5,
    "training.log_every_steps": 5,
}
"""A run of a second: 30 steps of a small MLP on digits, evaluated after steps 13 and 25."""


def small(**changes: object) -> RunConfig:
    """The small run with changes, such as `model__name="mlp"`."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return resolve(override(RunConfig(), {**SMALL, **dotted}))


def sizes(loaded):
    """{split: number of examples} of a data set."""
    return {name: len(part) for name, part in loaded.splits.items()}


def variables(module, image_shape):
    """Variables of a network as by `he_normal`, but drawn by numpy: compiling initialisers takes
    longer than most tests."""
    import jax

    from cnnjax.train import state

    init = functools.partial(state.initial_variables, module, image_shape)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            sd = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            return rng.normal(0, sd, leaf.shape).astype(leaf.dtype)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def train_alone(session, config, seed, directory, arm="", **options):
    """Trains one run alone to its end, see `loop.train`; returns its result."""
    from cnnjax.train import loop

    (result,) = loop.train(session, [loop.Job(config, seed, directory, arm)], **options)
    return result


def program(*words: str, threads: int = 1, check: int | None = 0, **extra: str):
    """Runs `python -m WORDS` and returns the finished process."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PJRT_NPROC": str(threads), **extra},
        timeout=300,
    )
    if check is not None:
        assert done.returncode == check, f"{words}\n{done.stdout}\n{done.stderr}"
    return done
