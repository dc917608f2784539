"""cnnjax as a contender of the benchmark, and the task that all contenders are given.

python -m launch.contender TASK.json native|xla ["8 steps"]

The third word is `N steps` (in one call) or `N replicas` (trained together).
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnjax import machine
from cnnjax.config import ResolvedConfig, RunConfig, override, resolve
from launch import timing

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn

CLASSES = 10
LEARNING_RATE = 0.01
IMAGES = {  # network: shape of its images
    "lenet5_modern": (28, 28, 1),
    "vgg_small": (32, 32, 3),
    "resnet20": (32, 32, 3),
    "inception_small": (32, 32, 3),
    "resnet18": (64, 64, 3),
    "resnet50": (224, 224, 3),
    "unet": (64, 64, 3),
}
FIELDS: dict[str, dict[str, Any]] = {  # network: its fields that are not the default
    "unet": {"task": "segmentation", "model.width": 0.25, "model.depth": 4},
}


def write_task(folder: Path, network: str, batch_size: int, precision: str, threads: int) -> Path:
    """Writes the task of all contenders for a network into `folder`; returns its JSON file.

    The arrays are `images` (uint8 [B, H, W, C]), `targets` (see `targets`) and the initial
    weights, under `p/` and their paths in cnnjax.
    """
    import jax
    import numpy as np

    jax.config.update("jax_platforms", "cpu")  # leaves the accelerator to the contenders
    from cnnjax.train import session, state

    values = {
        "network": network,
        "learning_rate": LEARNING_RATE,
        "batch_size": batch_size,
        "precision": precision,
        "threads": threads,
        "arrays": str(folder / "arrays.npz"),
    }
    shape, config = IMAGES[network], configuration(values)
    module = build(config)
    fresh = jax.jit(
        lambda key: state.initial_variables(module, shape, key),
        compiler_options=session.FAST_COMPILE["cpu"],
    )
    variables = fresh(jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, *shape), dtype=np.uint8)
    arrays = {f"p/{path}": leaf for path, leaf in state.flat(variables["params"]).items()}
    arrays |= {"images": images, "targets": targets(config.task, images, rng)}
    np.savez(folder / "arrays.npz", **arrays)
    path = folder / "task.json"
    path.write_text(json.dumps(values))
    return path


def targets(name: str, images: "np.ndarray", rng: "np.random.Generator") -> "np.ndarray":
    """The targets of images, uint8 [B, H, W, C], for the task called `name`: classes drawn at
    random, int32 [B]; for segmentation a mask, uint8 [B, H, W], of the brightness of each pixel in
    the first channel, in ten equal steps, with pixels at the border that count in no loss."""
    import numpy as np

    from cnnjax.data.targets import IGNORE

    if name != "segmentation":
        return rng.integers(0, CLASSES, len(images)).astype(np.int32)
    mask = np.full(images.shape[:3], IGNORE, np.uint8)
    mask[:, 1:-1, 1:-1] = images[:, 1:-1, 1:-1, 0] // (256 / CLASSES)
    return mask


def build(config: ResolvedConfig, **fields: Any) -> "nn.Module":
    """The network of a task; `fields` are those of `cnnjax.models.build`."""
    from cnnjax import models
    from cnnjax.tasks import registry

    return models.build(
        config.model,
        image_shape=IMAGES[config.model.name],
        num_outputs=CLASSES,
        per_pixel=registry.find(config.task).per_pixel,
        **fields,
    )


def configuration(task: dict[str, Any]) -> ResolvedConfig:
    """The configuration of a task."""
    changes = FIELDS.get(task["network"], {}) | {
        "model.name": task["network"],
        "model.dropout.keep_prob": 1.0,
        "data.normalize": "none",
        "optimizer.learning_rate": task["learning_rate"],
        "training.batch_size": task["batch_size"],
        "training.precision": task["precision"],
    }
    return resolve(override(RunConfig(), changes))


def prepare(
    task: dict[str, Any], convolution: str, mode: str = "1 step"
) -> tuple[Callable[[], list[float]], dict[str, Any]]:
    """Returns the `step` and the `about` of `timing.serve`. The step is the train step of a run,
    compiled in the same way, with the weights, images and labels of the task.

    Args:
      task: see `write_task`.
      convolution: native or xla.
      mode: `N steps` in one call (a scan), or `N replicas` trained together (a vmap).
    """
    import flax
    import jax
    import numpy as np

    from cnnjax.data import augment, inputs
    from cnnjax.nn import operations
    from cnnjax.tasks import registry
    from cnnjax.train import numerics, optim, parallel, session, state
    from cnnjax.train import step as steps

    count, together = int(mode.split()[0]), "replicas" in mode
    config, arrays = configuration(task), np.load(task["arrays"])
    images, objective = arrays["images"], registry.find(config.task)
    module = build(
        config,
        dtype=session.PRECISIONS[config.training.precision],
        operations=operations.choose(jax.default_backend(), convolution),
    )
    make_optimizer = optim.optimizer(config.optimizer)
    normalize = inputs.normalizer("none", (), ())
    train = steps.train_step(
        module,
        objective,
        make_optimizer,
        augment=augment.build(config.data.augmentation, images.shape[1:], ()),
        normalize=normalize,
    )
    precision = numerics.resolve(config.training, jax.default_backend())["matmul_precision"]
    train = numerics.at_precision(precision, train)
    compiled = parallel.Compiled(
        train,
        steps.eval_step(module, objective, normalize=normalize),
        mode="jit",
        devices=jax.devices(),
    )
    params = {key[2:]: arrays[key] for key in arrays.files if key.startswith("p/")}
    statistics = jax.jit(
        lambda key: state.initial_variables(module, images.shape[1:], key).get("batch_stats", {})
    )
    variables = {
        "params": flax.traverse_util.unflatten_dict(params, sep="/"),
        "batch_stats": statistics(jax.random.key(0)),
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
    (target,) = objective.reads
    batch = {"images": jax.device_put(images), target: jax.device_put(arrays["targets"])}
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
        stacked = {name: np.stack([np.asarray(array)] * count) for name, array in batch.items()}
        batch = dict(compiled.feed(stacked, True))

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
        *prepare(json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:]), timing.peak_jax_bytes
    )
