"""cnnjax itself in the benchmark: python -m launch.contender TASK.json native|xla"""

import json
import sys
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


def serve(task: dict[str, Any], convolution: str) -> None:
    """Answers `timing` with the train step of a run: same step, same compilation.

    The weights, images and labels are those of the task.
    """
    import flax
    import jax
    import numpy as np

    from cnnjax import models
    from cnnjax.data import augment, inputs
    from cnnjax.nn import operations
    from cnnjax.train import optim, parallel, session, state
    from cnnjax.train import step as steps

    config, arrays = configuration(task), np.load(task["arrays"])
    images = arrays["images"]
    module = models.build(
        config.model,
        image_shape=images.shape[1:],
        classes=task["classes"],
        dtype=session.PRECISIONS[config.training.precision],
        operations=operations.choose(jax.default_backend(), convolution),
    )
    make_optimizer = optim.optimizer(config.optimizer)
    normalize = inputs.normalizer("none", (), ())
    compiled = parallel.compile(
        steps.train_step(
            module,
            make_optimizer,
            augment=augment.build(config.data.augmentation, images.shape[1:], ()),
            normalize=normalize,
        ),
        steps.eval_step(module, normalize=normalize),
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
    current = compiled.place(state.create(variables, make_optimizer, averaged=False))
    hparams = state.HParams(
        learning_rate=np.float32(task["learning_rate"]),
        weight_decay=np.float32(0),
        keep_prob=np.float32(1),
        label_smoothing=np.float32(0),
        augment_key=compiled.place(keys["augment"]),
        dropout_key=compiled.place(keys["dropout"]),
    )
    batch = {"images": jax.device_put(images), "labels": jax.device_put(arrays["labels"])}

    def one() -> float:
        nonlocal current
        current, metrics = compiled.train(current, {}, batch, hparams)
        return float(metrics["loss"])

    timing.serve(one, {"version": jax.__version__, "device": jax.default_backend()})


if __name__ == "__main__":
    machine.keep_memory()
    serve(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
