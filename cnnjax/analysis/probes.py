"""Probes: what a trained network does besides being right, and what goes on inside of it.

A measure is a function (subject, split) -> numbers by name, a signal a function (subject) ->
numbers by layer and name. A subject is what `cnnjax.train.probe.Subject` says.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array

from cnnjax import models
from cnnjax.errors import UserError
from cnnjax.models.backbone import EVERY

SHIFTS = (1, 2, 3, 4, 5, 6)
SAMPLES = 16
IMAGES = 256
DIRECTIONS = ((0, 1), (1, 0))


def shift(subject: Any, split: str) -> dict[str, float]:
    """Accuracy on images shifted by 1 to 6 pixels, the mean of right and down; black pixels are
    shifted in: `shift_1` to `shift_6`."""
    return {
        f"shift_{pixels}": float(
            np.mean(
                [
                    _right(subject, subject.evaluate(split, _mover(pixels * down, pixels * right)))
                    for down, right in DIRECTIONS
                ]
            )
        )
        for pixels in SHIFTS
    }


def shift_consistency(subject: Any, split: str) -> dict[str, float]:
    """The share of images that get the same class when they are moved by one pixel, the mean of
    right and down. Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again"."""
    before = _classes(subject.evaluate(split))
    same = [
        np.mean(_classes(subject.evaluate(split, _mover(*way))) == before) for way in DIRECTIONS
    ]
    return {"shift_consistency": float(np.mean(same))}


def mc_dropout(subject: Any, split: str) -> dict[str, float]:
    """Accuracy of the mean probability over 16 passes with dropout at work, and what it has over
    the one pass with scaled weights: `monte_carlo`, `monte_carlo_gain`. Source: Srivastava et al.
    2014, section 7.5. Batch norm, where there is any, would see the batch in these passes: use it
    without."""
    scaled = subject.evaluate(split)
    one, count = _right(subject, scaled), len(_classes(scaled))
    images, targets = subject.batch(split, count)
    step = _stochastic(subject.module, subject.inputs)
    key = jax.random.key(subject.seed)
    right = 0.0
    for start in range(0, len(images), IMAGES):
        part = images[start : start + IMAGES]
        padded = np.concatenate([part, np.repeat(part[:1], IMAGES - len(part), 0)])
        with subject.precision():
            probability = sum(
                step(subject.variables, padded, jax.random.fold_in(key, sample), subject.keep_prob)
                for sample in range(SAMPLES)
            )
        chosen = np.asarray(probability).argmax(-1)[: len(part)]
        right += float((chosen == targets["label"][start : start + IMAGES]).sum())
    averaged = right / len(images)
    return {"monte_carlo": averaged, "monte_carlo_gain": averaged - one}


def _right(subject: Any, evaluated: Any) -> float:
    """The share of examples that are right: the primary metric of the task."""
    value: float = evaluated.figures().get(subject.task.primary.name)
    return value


def _classes(evaluated: Any) -> np.ndarray:
    """The class of each example. Raises UserError where the task has none."""
    if "logits" not in evaluated.predictions:
        raise UserError("probes: shift_consistency and mc_dropout are for classification")
    classes: np.ndarray = evaluated.predictions["logits"].argmax(-1)
    return classes


def activity(subject: Any) -> dict[str, dict[str, float]]:
    """Of each endpoint on 256 validation images: the standard deviation, the mean, and the share of
    units (channels of maps) that are the same on all of them: `sd`, `mean`, `dead`."""
    images, _ = subject.batch("validation", IMAGES)
    with subject.precision():
        features = _features(subject.module, subject.inputs)(subject.variables, images)
    return {
        name: {kind: float(value) for kind, value in features[name].items()}
        for name in _endpoints(subject.module, images.shape[1:])
    }


def gradients(subject: Any) -> dict[str, dict[str, float]]:
    """Of each layer's kernel on 256 validation images: the norm of the loss's gradient over that of
    the kernel, and the share of units whose weights equal another unit's: `gradient`, `twins`."""
    images, targets = subject.batch("validation", IMAGES)
    norms_of = _gradients(subject.module, subject.task, subject.inputs)
    with subject.precision():
        norms = norms_of(subject.variables, images, targets)
    kernels = traverse_util.flatten_dict(subject.variables["params"], sep="/")
    order = _endpoints(subject.module, images.shape[1:])

    def place(path: str) -> tuple[int, list[Any]]:
        layer = path.partition("/")[0]
        numbers = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]
        return order.index(layer) if layer in order else len(order), numbers

    return {
        path.removesuffix("/kernel"): {
            "gradient": float(norms[path]),
            "twins": twins(kernels[path]),
        }
        for path in sorted(norms, key=place)
    }


def twins(kernel: Any) -> float:
    """The share of a layer's units whose incoming weights equal another unit's to 1e-6 of the
    largest. kernel: [..., inputs, units]."""
    weights = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    size = np.abs(weights).max() or 1.0
    rounded = np.round(weights / size, 6)
    _, where, counts = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
    return float(np.mean(counts[where.reshape(-1)] > 1))


_AS_IN_TRAINING: dict[str, Any] = {
    "train": True,
    "keep_prob": 1.0,
    "rngs": {"dropout": jax.random.key(0)},
    "mutable": ["batch_stats", "auxiliary"],
}
"""How signals see a network: batch norm by the batch, all units kept."""


def _mover(down: int, right: int) -> Callable[[Array], Array]:
    return functools.partial(_moved, down=down, right=right)


@functools.partial(jax.jit, static_argnames=("down", "right"))
def _moved(images: Array, *, down: int, right: int) -> Array:
    """[N, H, W, C], moved by so many pixels; zeros come in."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (down, 0), (right, 0), (0, 0)))
    return padded[:, :height, :width]


@functools.cache
def _endpoints(module: nn.Module, image_shape: tuple[int, int, int]) -> list[str]:
    """The endpoints in the order in which the network computes them."""
    return list(models.describe(module, image_shape))


@functools.cache
def _stochastic(module: nn.Module, inputs: Callable[[Array], Array]) -> Callable[..., Array]:
    @jax.jit
    def step(variables: Any, images: Array, key: Array, keep_prob: float) -> Array:
        logits, _ = module.apply(
            variables,
            inputs(images),
            train=True,
            keep_prob=keep_prob,
            rngs={"dropout": key},
            mutable=["batch_stats", "auxiliary"],
        )
        return jax.nn.softmax(logits)

    return step


@functools.cache
def _features(module: nn.Module, inputs: Callable[[Array], Array]) -> Callable[..., Any]:
    @jax.jit
    def found(variables: Any, images: Array) -> dict[str, dict[str, Array]]:
        given = inputs(images)
        (_, features), _ = module.apply(variables, given, capture=EVERY, **_AS_IN_TRAINING)
        return {name: _statistics(value) for name, value in features.items()}

    return found


def _statistics(features: Array) -> dict[str, Array]:
    flat = features.astype(jnp.float32).reshape(-1, features.shape[-1])
    return {
        "sd": flat.std(),
        "mean": flat.mean(),
        "dead": (flat.max(0) == flat.min(0)).mean(),
    }


@functools.cache
def _gradients(
    module: nn.Module, task: Any, inputs: Callable[[Array], Array]
) -> Callable[..., Any]:
    @jax.jit
    def found(variables: Any, images: Array, targets: Any) -> dict[str, Array]:
        def loss(params: Any) -> Array:
            given = {**variables, "params": params}
            outputs, _ = module.apply(given, inputs(images), **_AS_IN_TRAINING)
            value: Array = task.loss(outputs, targets, 0.0).mean()
            return value

        gradient = traverse_util.flatten_dict(jax.grad(loss)(variables["params"]), sep="/")
        params = traverse_util.flatten_dict(variables["params"], sep="/")
        return {
            path: jnp.linalg.norm(value) / jnp.maximum(jnp.linalg.norm(params[path]), 1e-12)
            for path, value in gradient.items()
            if path.endswith("kernel")
        }

    return found


MEASURES: Mapping[str, Callable[[Any, str], dict[str, float]]] = {
    "shift": shift,
    "shift_consistency": shift_consistency,
    "mc_dropout": mc_dropout,
}
SIGNALS: Mapping[str, Callable[[Any], dict[str, dict[str, float]]]] = {
    "activity": activity,
    "gradients": gradients,
}
