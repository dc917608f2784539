"""One device and four: the same run, with jit over a mesh and with pmap. In float64, in a process
of its own, because the number of devices and the precision are fixed when jax starts."""

import json
import os
import subprocess
import sys

import pytest

from cnnjax.errors import UserError
from cnnjax.train import parallel
from common import ROOT

SCRIPT = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from cnnjax import models
from cnnjax.config import Augmentation, Optimizer, create
from cnnjax.data import augment, inputs
from cnnjax.models.vgg import VGG
from cnnjax.train import optim, parallel, state, step

STEPS, BATCH, SHAPE = 4, 16, (8, 8, 1)
draw = np.random.default_rng(0)
store = {
    "images": draw.integers(0, 256, (64, *SHAPE)).astype(np.uint8),
    "labels": draw.integers(0, 3, 64).astype(np.int32),
}
order = draw.permuted(np.tile(np.arange(64, dtype=np.int32), (STEPS, 1)), axis=1)[:, :BATCH]

LEVELS = {"model": {"tiny": lambda make, classes, shape: VGG(make, classes, ((4,), (6,)), (8,))}}

def run(mode, devices, statistics="global", norm="batch", shift=1):
    mapped = mode == "pmap"
    values = {"name": "tiny", "norm": {"kind": norm}, "dropout": {"keep_prob": 1.0}}
    config = create({"model": values}, LEVELS).model
    axis = parallel.AXIS if mapped and statistics == "global" else None
    module = models.build(
        config, image_shape=SHAPE, classes=3, dtype=jnp.float64, param_dtype=jnp.float64,
        axis_name=axis, levels=LEVELS,
    )
    make = optim.optimizer(Optimizer(name="momentum"))
    normalize = lambda images: (images - 0.5).astype(jnp.float64)
    train = step.train_step(
        module, make, augment=augment.build(Augmentation(shift_pixels=shift, flip=0.5), SHAPE),
        normalize=normalize, axis_name=parallel.AXIS if mapped else None,
    )
    compiled = parallel.compile(
        train, step.eval_step(module, normalize=normalize), inputs.gather, mode=mode,
        devices=jax.devices()[:devices],
    )
    variables = jax.jit(lambda k: state.initial_variables(module, SHAPE, k))(jax.random.key(0))
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    keys = state.keys(3)
    current = compiled.place(state.create(variables, make, averaged=False))
    placed = compiled.place(store)
    hparams = compiled.place(state.HParams(0.05, 1e-3, 1.0, 0.1, keys["augment"], keys["dropout"]))
    for rows in order:
        current, metrics = compiled.train(current, placed, {"indices": rows}, hparams)
    figures = compiled.evaluate(
        current.variables, placed, {"indices": order[0]}, np.float64(1.0)
    )
    whole = all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(current))
    leaves = state.flat({"p": current.params, "s": current.batch_stats})
    return {
        "values": {k: np.asarray(v) for k, v in leaves.items()},
        "loss": float(metrics["loss"]), "traces": compiled.traces(), "whole": whole,
        "logits": np.asarray(figures["logits"]), "step": int(current.step),
    }

def apart(a, b):
    gaps = [np.abs(a["values"][k] - b["values"][k]).max() for k in a["values"]]
    return float(max(*gaps, np.abs(a["logits"] - b["logits"]).max(), abs(a["loss"] - b["loss"])))

one = run("jit", 1)
four, synced, own = run("jit", 4), run("pmap", 4), run("pmap", 4, "per_device")
print(json.dumps({
    "jit": apart(one, four), "pmap": apart(one, synced), "per_device": apart(one, own),
    "traces": [r["traces"] for r in (one, four, synced, own)],
    "whole": [r["whole"] for r in (one, four, synced, own)],
    "steps": [r["step"] for r in (one, four, synced, own)],
    "size": float(np.abs(one["logits"]).max()),
}))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=400,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_four_devices_under_jit_are_one(found):
    assert found["jit"] < 1e-9
    assert found["size"] > 1e-3


def test_four_devices_under_pmap_with_synchronised_statistics_are_one(found):
    assert found["pmap"] < 1e-9


def test_statistics_per_device_are_another_network(found):
    assert found["per_device"] > 1e-4


def test_each_step_is_traced_once_and_leaves_one_whole_state(found):
    assert found["traces"] == [1, 1, 1, 1]
    assert found["whole"] == [True] * 4
    assert found["steps"] == [4] * 4


def test_a_batch_that_cannot_be_dealt_out_is_refused():
    parallel.check_batch(64, 4)
    with pytest.raises(
        UserError, match=r"batch_size: 50 cannot be divided among 4 devices; try 48"
    ):
        parallel.check_batch(50, 4)
