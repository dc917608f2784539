"""cnnjax itself in the benchmark: python -m launch.contender TASK.json native|xla ["8 steps"]

The third word is `N steps` (in one call) or `N replicas` (trained together).
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnjax import machine
from cnnjax.config import RunConfig, override, resolve
from launch import timing


def configuration(task: dict[str, Any]) -> RunConfig:
    """The configuration that a task stands for."""
    changes = {
        "model.name": task["network"],
        "model.dropout.keep_prob": 1.0,
        "data.normalize": "none",
        "optimizer.learning_rate": task["learning_rate"],
        "training.batch_size": task["batch_size"],
        "training.precision": task["precision"],
    }
    return resolve(override(RunConfig(), changes))


def prepare(
    task: dict[str, Any], convolution: str, way: str = "1 step"
) -> tuple[Callable[[], list[float]], dict[str, Any]]:
    """The train step of a run, same step and same compilation, as `timing.serve` calls it; and what
    is to be known of it.

    The weights, images and labels are those of the task.

    Args:
      task: see `launch.contenders.task`.
      convolution: native or xla.
      way: `N steps` in one call (a scan), or `N replicas` trained together (a vmap).
    """
    import flax
    import jax
    import numpy as np

    from cnnjax import models
    from cnnjax.data import augment, inputs
    from cnnjax.nn import operations
    from cnnjax.tasks import classification
    from cnnjax.train import numerics, optim, parallel, session, state
    from cnnjax.train import step as steps

    count, together = int(way.split()[0]), "replicas" in way
    config, arrays = configuration(task), np.load(task["arrays"])
    images = arrays["images"]
    module = models.build(
        config.model,
        image_shape=images.shape[1:],
        num_outputs=task["num_classes"],
        dtype=session.PRECISIONS[config.training.precision],
        operations=operations.choose(jax.default_backend(), convolution),
    )
    make_optimizer = optim.optimizer(config.optimizer)
    normalize = inputs.normalizer("none", (), ())
    train = steps.train_step(
        module,
        classification.TASK,
        make_optimizer,
        augment=augment.build(config.data.augmentation, images.shape[1:], ()),
        normalize=normalize,
    )
    precision = numerics.resolve(config.training, jax.default_backend())["matmul_precision"]
    train = numerics.at_precision(precision, train)
    compiled = parallel.compile(
        train,
        steps.eval_step(module, classification.TASK, normalize=normalize),
        inputs.gather,
        mode="jit",
        devices=jax.devices(),
    )
    given = {key[2:]: arrays[key] for key in arrays.files if key.startswith("p/")}
    fresh = jax.jit(lambda key: state.initial_variables(module, images.shape[1:], key))
    variables = fresh(jax.random.key(0)) | {
        "params": flax.traverse_util.unflatten_dict(given, sep="/")
    }
    keys = state.keys(0)
    current = compiled.replicate(state.create(variables, make_optimizer, averaged=False))
    hparams = state.HParams(
        learning_rate=np.float32(task["learning_rate"]),
        weight_decay=np.float32(0),
        keep_prob=np.float32(1),
        label_smoothing=np.float32(0),
        augment_key=compiled.replicate(keys["augment"]),
        dropout_key=compiled.replicate(keys["dropout"]),
    )
    batch = {"images": jax.device_put(images), "label": jax.device_put(arrays["labels"])}
    step = compiled.train
    if together:
        assert compiled.train_replicas is not None
        step = compiled.train_replicas
        current, batch, hparams = (
            compiled.shard([tree] * count) for tree in (current, batch, hparams)
        )
    elif count > 1:
        step = compiled.train_steps
        rates = np.full(count, task["learning_rate"], np.float32)
        hparams = dataclasses.replace(hparams, learning_rate=rates)
        same = {name: np.stack([np.asarray(array)] * count) for name, array in batch.items()}
        batch = dict(compiled.feed(same, True))

    def call() -> list[float]:
        nonlocal current
        current, metrics = step(current, {}, batch, hparams)
        losses = np.asarray(metrics["loss"])
        return [float(losses.mean())] if together else np.ravel(losses).tolist()

    about = {
        "version": jax.__version__,
        "device": jax.local_devices()[0].device_kind,
        "images_a_call": count * len(images),
    }
    return call, about


if __name__ == "__main__":
    machine.keep_memory()
    timing.serve(
        *prepare(json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:]), timing.on_jax_device
    )
