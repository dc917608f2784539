"""Probes: further measurements of a trained network, on its outputs and inside it.

A measure is a function (context, split) -> {name: value}, a signal a function (context) ->
{layer: {name: value}}, of a `cnnjax.train.probe.ProbeContext`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array

from cnnjax import models
from cnnjax.errors import UserError
from cnnjax.models.backbone import ALL_ENDPOINTS
from cnnjax.tasks.task import Arrays, Task

if TYPE_CHECKING:
    from cnnjax.train.evaluation import SplitEvaluation
    from cnnjax.train.probe import ProbeContext

Images = Callable[[Array], Array]
SHIFTS = (1, 2, 3, 4, 5, 6)
SAMPLES = 16
IMAGES = 256


def shift(context: "ProbeContext", split: str) -> dict[str, float]:
    """Accuracy on images shifted by 1 to 6 pixels, the mean of right and down, over black
    pixels: `shift_1` to `shift_6`."""
    return {
        f"shift_{pixels}": float(
            np.mean(
                [_accuracy(context, context.evaluate(split, change)) for change in _shifts(pixels)]
            )
        )
        for pixels in SHIFTS
    }


def shift_consistency(context: "ProbeContext", split: str) -> dict[str, float]:
    """The share of images whose class is the same after a shift by one pixel, the mean of right and
    down. Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again"."""
    before = _classes(context.evaluate(split))
    same = [np.mean(_classes(context.evaluate(split, change)) == before) for change in _shifts(1)]
    return {"shift_consistency": float(np.mean(same))}


def mc_dropout(context: "ProbeContext", split: str) -> dict[str, float]:
    """Accuracy of the mean probability over 16 passes with dropout, and its difference from one
    pass with scaled weights: `monte_carlo`, `monte_carlo_gain`. Source: Srivastava et al. 2014,
    section 7.5. Not for networks with batch norm, which would normalize by the batch in these
    passes."""
    scaled = context.evaluate(split)
    one_pass, count = _accuracy(context, scaled), len(_classes(scaled))
    images, targets = context.batch(split, count)
    step = functools.partial(_stochastic, context.module, context.inputs)
    key = jax.random.key(context.seed)
    num_correct = 0.0
    for start in range(0, len(images), IMAGES):
        batch = images[start : start + IMAGES]
        padded = np.concatenate([batch, np.repeat(batch[:1], IMAGES - len(batch), 0)])
        with context.precision():
            probability = sum(
                step(context.variables, padded, jax.random.fold_in(key, sample), context.keep_prob)
                for sample in range(SAMPLES)
            )
        predicted = np.asarray(probability).argmax(-1)[: len(batch)]
        num_correct += float((predicted == targets["label"][start : start + IMAGES]).sum())
    averaged = num_correct / len(images)
    return {"monte_carlo": averaged, "monte_carlo_gain": averaged - one_pass}


def _accuracy(context: "ProbeContext", evaluation: "SplitEvaluation") -> float:
    """The primary metric of the task."""
    value = evaluation.figures().get(context.task.primary.name)
    assert value is not None, "it is finite for outputs that are"
    return value


def _classes(evaluation: "SplitEvaluation") -> np.ndarray:
    """The predicted class of each example. Raises UserError for a task without logits."""
    if "logits" not in evaluation.predictions:
        raise UserError("probes: shift_consistency and mc_dropout are for classification")
    classes: np.ndarray = evaluation.predictions["logits"].argmax(-1)
    return classes


def activity(context: "ProbeContext") -> dict[str, dict[str, float]]:
    """For each endpoint on 256 validation images: the standard deviation, the mean, and the share
    of units (channels of maps) with a constant value: `sd`, `mean`, `dead`."""
    images, _ = context.batch("validation", IMAGES)
    with context.precision():
        features = _features(context.module, context.inputs, context.variables, images)
    return {
        name: {kind: float(value) for kind, value in features[name].items()}
        for name in _endpoints(context.module, images.shape[1:])
    }


def gradients(context: "ProbeContext") -> dict[str, dict[str, float]]:
    """For each kernel on 256 validation images: the norm of its gradient divided by that of the
    kernel, and the share of units with the weights of another unit: `gradient`, `twins`."""
    images, targets = context.batch("validation", IMAGES)
    network = (context.module, context.task, context.inputs, context.variables)
    with context.precision():
        norms = _gradient_norms(*network, images, targets)
    kernels = traverse_util.flatten_dict(context.variables["params"], sep="/")
    order = _endpoints(context.module, images.shape[1:])

    def sort_key(path: str) -> tuple[int, list[Any]]:
        layer = path.partition("/")[0]
        numbers = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]
        return order.index(layer) if layer in order else len(order), numbers

    return {
        path.removesuffix("/kernel"): {
            "gradient": float(norms[path]),
            "twins": twins(kernels[path]),
        }
        for path in sorted(norms, key=sort_key)
    }


def twins(kernel: Any) -> float:
    """The share of a layer's units whose incoming weights equal another unit's to 1e-6 of the
    largest. kernel: [..., inputs, units]."""
    weights = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    size = np.abs(weights).max() or 1.0
    rounded = np.round(weights / size, 6)
    _, group_of, counts = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
    return float(np.mean(counts[group_of.reshape(-1)] > 1))


def _as_in_training() -> dict[str, Any]:
    """How signals run a network: batch norm by the batch, no dropout."""
    return {
        "train": True,
        "keep_prob": 1.0,
        "rngs": {"dropout": jax.random.key(0)},
        "mutable": ["batch_stats", "auxiliary"],
    }


def _shifts(pixels: int) -> list[Images]:
    """Shifts of images by so many pixels: to the right, and down."""
    directions = ((0, pixels), (pixels, 0))
    return [functools.partial(_shifted, down=down, right=right) for down, right in directions]


@functools.partial(jax.jit, static_argnames=("down", "right"))
def _shifted(images: Array, *, down: int, right: int) -> Array:
    """[N, H, W, C], shifted by so many pixels over zeros."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (down, 0), (right, 0), (0, 0)))
    return padded[:, :height, :width]


@functools.cache
def _endpoints(module: nn.Module, image_shape: tuple[int, int, int]) -> list[str]:
    """The endpoints in the order in which the network computes them."""
    return list(models.describe(module, image_shape))


@functools.partial(jax.jit, static_argnames=("module", "inputs"))
def _stochastic(
    module: nn.Module, inputs: Images, variables: Any, images: Array, key: Array, keep_prob: float
) -> Array:
    """The probabilities of the classes in a pass with dropout."""
    options = _as_in_training() | {"keep_prob": keep_prob, "rngs": {"dropout": key}}
    logits, _ = module.apply(variables, inputs(images), **options)
    return jax.nn.softmax(logits)


@functools.partial(jax.jit, static_argnames=("module", "inputs"))
def _features(
    module: nn.Module, inputs: Images, variables: Any, images: Array
) -> dict[str, dict[str, Array]]:
    x = inputs(images)
    (_, features), _ = module.apply(variables, x, capture=ALL_ENDPOINTS, **_as_in_training())
    return {name: _statistics(value) for name, value in features.items()}


def _statistics(features: Array) -> dict[str, Array]:
    flat = features.astype(jnp.float32).reshape(-1, features.shape[-1])
    return {
        "sd": flat.std(),
        "mean": flat.mean(),
        "dead": (flat.max(0) == flat.min(0)).mean(),
    }


@functools.partial(jax.jit, static_argnames=("module", "task", "inputs"))
def _gradient_norms(
    module: nn.Module, task: Task, inputs: Images, variables: Any, images: Array, targets: Arrays
) -> dict[str, Array]:
    def loss(params: Any) -> Array:
        x = inputs(images)
        outputs, _ = module.apply({**variables, "params": params}, x, **_as_in_training())
        value: Array = task.loss(outputs, targets, 0.0).mean()
        return value

    gradient = traverse_util.flatten_dict(jax.grad(loss)(variables["params"]), sep="/")
    params = traverse_util.flatten_dict(variables["params"], sep="/")
    return {
        path: jnp.linalg.norm(value) / jnp.maximum(jnp.linalg.norm(params[path]), 1e-12)
        for path, value in gradient.items()
        if path.endswith("kernel")
    }


MEASURES: Mapping[str, Callable[["ProbeContext", str], dict[str, float]]] = {
    "shift": shift,
    "shift_consistency": shift_consistency,
    "mc_dropout": mc_dropout,
}
SIGNALS: Mapping[str, Callable[["ProbeContext"], dict[str, dict[str, float]]]] = {
    "activity": activity,
    "gradients": gradients,
}
