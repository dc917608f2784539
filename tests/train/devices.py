"""The program of test_parallel: one run on one device and on four, and replicates.

Started with JAX_NUM_CPU_DEVICES=4 JAX_ENABLE_X64=1.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models
from cnnjax.config import Augmentation, Optimizer, create
from cnnjax.data import augment, inputs
from cnnjax.models.vgg import VGG
from cnnjax.train import lanes, optim, parallel, state, step

STEPS, BATCH, SHAPE = 4, 16, (8, 8, 1)
draw = np.random.default_rng(0)
store = {
    "images": draw.integers(0, 256, (64, *SHAPE)).astype(np.uint8),
    "labels": draw.integers(0, 3, 64).astype(np.int32),
}
order = draw.permuted(np.tile(np.arange(64, dtype=np.int32), (STEPS, 1)), axis=1)[:, :BATCH]

LEVELS = {"model": {"tiny": lambda make, classes, shape: VGG(make, classes, ((4,), (6,)), (8,))}}


def normalize(images):
    return (images - 0.5).astype(jnp.float64)


def built(mode, devices, statistics="global", **model):
    mapped = mode == "pmap"
    values = {"name": "tiny", "norm": {"kind": "batch"}, "dropout": {"keep_prob": 1.0}, **model}
    config = create({"model": values}, LEVELS).model
    axis = parallel.AXIS if mapped and statistics == "global" else None
    module = models.build(
        config,
        image_shape=SHAPE,
        classes=3,
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        axis_name=axis,
        levels=LEVELS,
    )
    make = optim.optimizer(Optimizer(name="momentum"))
    train = step.train_step(
        module,
        make,
        augment=augment.build(Augmentation(shift_pixels=1, flip=0.5), SHAPE),
        normalize=normalize,
        axis_name=parallel.AXIS if mapped else None,
    )
    compiled = parallel.compile(
        train,
        step.eval_step(module, normalize=normalize),
        inputs.gather,
        mode=mode,
        devices=jax.devices()[:devices],
    )
    initialize = jax.jit(lambda k: state.initial_variables(module, SHAPE, k))

    def start(key):
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialize(key))
        return compiled.place(state.create(variables, make, averaged=False))

    return compiled, start


def numbers(seed, keep_prob=1.0):
    keys = state.keys(seed)
    return state.HParams(0.05, 1e-3, keep_prob, 0.1, keys["augment"], keys["dropout"])


def values(current):
    leaves = state.flat({"p": current.params, "s": current.batch_stats})
    return {name: np.asarray(value) for name, value in leaves.items()}


def run(mode, devices, statistics="global"):
    compiled, start = built(mode, devices, statistics)
    current, placed = start(jax.random.key(0)), compiled.place(store)
    hparams = compiled.place(numbers(3))
    for rows in order:
        current, metrics = compiled.train(current, placed, {"indices": rows}, hparams)
    figures = compiled.evaluate(current.variables, placed, {"indices": order[0]}, np.float64(1.0))
    whole = all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(current))
    return {
        "values": values(current),
        "loss": float(metrics["loss"]),
        "traces": compiled.traces(),
        "whole": whole,
        "logits": np.asarray(figures["logits"]),
        "step": int(current.step),
    }


def seeds(chosen, devices, together, steps=10):
    """{seed: its parameters and statistics, and its losses}, of a network with dropout."""
    compiled, start = built("jit", devices, dropout={"keep_prob": 0.5})
    placed, found = compiled.place(store), {}
    for group in [chosen] if together else [[seed] for seed in chosen]:
        taken = lanes.Lanes(
            compiled,
            placed,
            dict(enumerate(start(state.keys(seed)["params"]) for seed in group)),
            dict(enumerate(compiled.place(numbers(seed, 0.5)) for seed in group)),
            width=len(group) if together else 0,
        )
        rows = [np.random.default_rng(seed).integers(0, 64, (steps, BATCH)) for seed in group]
        losses = []
        for number in range(steps):
            batches = [{"indices": each[number].astype(np.int32)} for each in rows]
            metrics = taken.step(dict(enumerate(batches)), 0.05 / (1 + number))
            losses.append([figures["loss"] for figures in taken.wait(metrics).values()])
        for place, seed in enumerate(group):
            last = taken.state(place)
            found[seed] = values(last) | {"losses": np.array(losses)[:, place]}
            assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(last))
    return found | {"traces": compiled.traces()}


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


one = run("jit", 1)
four, synced, own = run("jit", 4), run("pmap", 4), run("pmap", 4, "per_device")
alone = seeds([1, 2, 3], 1, False)
stacked, dealt, single = (
    seeds([1, 2, 3], 1, True),
    seeds([1, 2, 3], 4, True),
    seeds([1, 2, 3], 4, False),
)
print(
    json.dumps(
        {
            "jit": apart(one, four),
            "pmap": apart(one, synced),
            "per_device": apart(one, own),
            "traces": [r["traces"] for r in (one, four, synced, own)],
            "whole": [r["whole"] for r in (one, four, synced, own)],
            "steps": [r["step"] for r in (one, four, synced, own)],
            "size": float(np.abs(one["logits"]).max()),
            "stacked": gaps(alone, stacked),
            "dealt": gaps(alone, dealt),
            "single": gaps(alone, single),
            "seeds": min(differences(alone[1], alone[2])),
            "together": [alone["traces"], stacked["traces"], dealt["traces"]],
        }
    )
)
