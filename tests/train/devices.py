"""The program of test_parallel: one run on one device and on four, replicas, and several steps in
a call.

Started with JAX_NUM_CPU_DEVICES=4 JAX_ENABLE_X64=1.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models
from cnnjax.config import Augmentation, Optimizer, create
from cnnjax.data import augment
from cnnjax.models.vgg import VGG
from cnnjax.tasks import classification, segmentation
from cnnjax.train import optim, parallel, replicas, state, step

STEPS, BATCH, SHAPE = 4, 16, (8, 8, 1)
draw = np.random.default_rng(0)
store = {
    "images": draw.integers(0, 256, (64, *SHAPE)).astype(np.uint8),
    "label": draw.integers(0, 3, 64).astype(np.int32),
    "mask": draw.integers(0, 3, (64, *SHAPE[:2])).astype(np.uint8),
}
order = draw.permuted(np.tile(np.arange(64, dtype=np.int32), (STEPS, 1)), axis=1)[:, :BATCH]

LEVELS = {"model": {"tiny": lambda make, classes, shape: VGG(make, ((4,), (6,)), (8,))}}


def normalize(images):
    return (images - 0.5).astype(jnp.float64)


def built(mode, devices, statistics="global", task=classification.TASK, **model):
    mapped = mode == "pmap"
    values = {"name": "tiny", "norm": {"kind": "batch"}, "dropout": {"keep_prob": 1.0}, **model}
    name = "segmentation" if task.per_pixel else "classification"
    config = create({"task": name, "model": values}, LEVELS).model
    axis = parallel.AXIS if mapped and statistics == "global" else None
    module = models.build(
        config,
        image_shape=SHAPE,
        num_outputs=3,
        per_pixel=task.per_pixel,
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        axis_name=axis,
        levels=LEVELS,
    )
    make = optim.optimizer(Optimizer(name="momentum"))
    train = step.train_step(
        module,
        task,
        make,
        augment=augment.build(Augmentation(shift_pixels=1, flip=0.5), SHAPE),
        normalize=normalize,
        axis_name=parallel.AXIS if mapped else None,
    )
    compiled = parallel.Compiled(
        train,
        step.eval_step(module, task, normalize=normalize),
        mode=mode,
        devices=jax.devices()[:devices],
    )
    initialize = jax.jit(lambda k: state.initial_variables(module, SHAPE, k))

    def start(key):
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialize(key))
        return compiled.replicate(state.create(variables, make, averaged=False))

    return compiled, start


def numbers(seed, keep_prob=1.0):
    keys = state.keys(seed)
    return state.HParams(0.05, 1e-3, keep_prob, 0.1, keys["augment"], keys["dropout"])


def values(current):
    leaves = state.flat({"p": current.params, "s": current.batch_stats})
    return {name: np.asarray(value) for name, value in leaves.items()}


def run(mode, devices, statistics="global", per_call=1, **built_with):
    compiled, start = built(mode, devices, statistics, **built_with)
    current, placed = start(jax.random.key(0)), compiled.replicate(store)
    hparams = compiled.replicate(numbers(3))
    for rows in np.split(order, STEPS // per_call):
        if per_call > 1:
            rates = np.full(per_call, 0.05)
            several = dataclasses.replace(hparams, learning_rate=rates)
            batch = compiled.feed({"indices": rows}, True)
            current, metrics = compiled.train_steps(current, placed, batch, several)
        else:
            batch = compiled.feed({"indices": rows[0]}, False)
            current, metrics = compiled.train(current, placed, batch, hparams)
    figures = compiled.evaluate(current.variables, placed, {"indices": order[0]}, np.float64(1.0))
    whole = all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(current))
    return {
        "values": values(current),
        "loss": float(np.ravel(metrics["loss"])[-1]),
        "traces": compiled.traces,
        "whole": whole,
        "logits": np.asarray(figures["predictions"].get("logits", figures["statistics"]["loss"])),
        "step": int(current.step),
    }


ARMS = {  # seed: what else its run differs in: learning rate, decay, keep_prob, smoothing
    1: (0.05, 1e-3, 0.5, 0.1),
    2: (0.2, 0.0, 0.8, 0.0),
    3: (0.01, 1e-2, 0.3, 0.2),
}


def seeds(chosen, devices, together, per_call=1, arms=False, steps=10):
    """{seed: its parameters and statistics, and its losses}, of a network with dropout; each with
    numbers of its own if they are of several `arms`."""
    compiled, start = built("jit", devices, dropout={"keep_prob": 0.5})
    placed, results = compiled.replicate(store), {}
    for group in [chosen] if together else [[seed] for seed in chosen]:
        settings = [ARMS[seed if arms else 1] for seed in group]
        taken = replicas.Replicas(
            compiled,
            placed,
            dict(enumerate(start(state.keys(seed)["params"]) for seed in group)),
            {
                index: compiled.replicate(
                    dataclasses.replace(
                        numbers(seed, keep), weight_decay=decay, label_smoothing=smoothing
                    )
                )
                for index, (seed, (_, decay, keep, smoothing)) in enumerate(
                    zip(group, settings, strict=True)
                )
            },
            width=len(group) if together else 0,
        )
        rows = [np.random.default_rng(seed).integers(0, 64, (steps, BATCH)) for seed in group]
        losses = []
        for call in np.split(np.arange(steps), steps // per_call):
            batches = {
                index: [{"indices": each[number].astype(np.int32)} for number in call]
                for index, each in enumerate(rows)
            }
            rates = {
                index: [rate / (1 + number) for number in call]
                for index, (rate, *_) in enumerate(settings)
            }
            figures = taken.figures(taken.steps(taken.batch(batches), rates))
            losses.append([[each["loss"] for each in figures[index]] for index in rates])
        for index, seed in enumerate(group):
            last = taken.state(index)
            losses_of = np.concatenate([call[index] for call in losses])
            results[seed] = values(last) | {"losses": losses_of}
            assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(last))
    return results | {"traces": compiled.traces}


def gaps(a, b):
    """The largest gap between equal seeds of a and b."""
    return float(max(np.abs(a[s][k] - b[s][k]).max() for s in (1, 2, 3) for k in a[s]))


def differences(a, b):
    """How far apart two runs are, in their losses and in each kernel."""
    names = [name for name in a if name == "losses" or name.endswith("kernel")]
    return [float(np.abs(a[name] - b[name]).max()) for name in names]


def apart(a, b):
    gaps = [np.abs(a["values"][k] - b["values"][k]).max() for k in a["values"]]
    return float(max(*gaps, np.abs(a["logits"] - b["logits"]).max(), abs(a["loss"] - b["loss"])))


def compare(devices):
    """The differences between the modes of taking steps, on one device and on several."""
    one = run("jit", 1)
    several, synced = run("jit", devices), run("pmap", devices)
    own = run("pmap", devices, "per_device")
    alone, own_numbers = seeds([1, 2, 3], 1, False), seeds([1, 2, 3], 1, False, arms=True)
    pixels = {"task": segmentation.TASK, "decoder": "max_unpool", "skips": "concatenate"}
    stacked, sharded = seeds([1, 2, 3], 1, True), seeds([1, 2, 3], devices, True)
    return {
        "jit": apart(one, several),
        "pmap": apart(one, synced),
        "per_device": apart(one, own),
        "segmentation": apart(run("jit", 1, **pixels), run("jit", devices, **pixels)),
        "traces": [r["traces"] for r in (one, several, synced, own)],
        "whole": [r["whole"] for r in (one, several, synced, own)],
        "steps": [r["step"] for r in (one, several, synced, own)],
        "size": float(np.abs(one["logits"]).max()),
        "stacked": gaps(alone, stacked),
        "sharded": gaps(alone, sharded),
        "single": gaps(alone, seeds([1, 2, 3], devices, False)),
        "seeds": min(differences(alone[1], alone[2])),
        "together": [alone["traces"], stacked["traces"], sharded["traces"]],
        "arms": gaps(own_numbers, seeds([1, 2, 3], 1, True, arms=True)),
        "arms_sharded": gaps(own_numbers, seeds([1, 2, 3], devices, True, per_call=5, arms=True)),
        "numbers": min(differences(own_numbers[2], alone[2])),
        "scanned": {
            "jit": apart(one, run("jit", 1, per_call=2)),
            "jit, several devices": apart(one, run("jit", devices, per_call=4)),
            "pmap": apart(one, run("pmap", devices, per_call=2)),
            "with dropout": gaps(alone, seeds([1, 2, 3], 1, False, per_call=5)),
            "replicas": gaps(alone, seeds([1, 2, 3], 1, True, per_call=2)),
        },
    }


if __name__ == "__main__":
    print(json.dumps(compare(4)))
