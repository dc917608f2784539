"""Layer-sequential unit variance: an initialisation that depends on data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array

from cnnjax.nn.convolution import Conv, ConvolvedDense, SparseConv
from cnnjax.nn.upsampling import TransposedConv

Path = tuple[str, ...]
LAYERS = (Conv, ConvolvedDense, nn.Dense, SparseConv, TransposedConv)


def lsuv(
    module: nn.Module,
    variables: Mapping[str, Any],
    images: Array,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
) -> dict[str, Any]:
    """Scales every kernel so that the output of its layer has variance 1 on `images`.

    Mishkin and Matas 2016, "All you need is a good init", algorithm 1: layer by layer in the order
    of execution, each kernel is divided by the standard deviation of the layer's output (before
    normalisation and activation, over all examples, positions and channels), until the variance is
    within `tolerance` of 1. Orthogonal kernels, the paper's first step, are expected in
    `variables`. The network runs as in training, with batch statistics and without dropout.

    All layers are scaled in one forward pass: dividing the kernel divides the output (without the
    bias), and later layers see the scaled output, as in the paper's pass per layer. With biases
    this is inexact and passes are repeated, at most `max_iterations` times. A layer whose output is
    constant or not finite is unchanged.

    Args:
      module: called as `module(images, train=True, keep_prob=1.0)`.
      variables: {"params": ..., "batch_stats": ...}; the latter is returned unchanged.
      images: [B, H, W, C], the first training batch, not augmented.
      tolerance: largest deviation of a variance from 1.
      max_iterations: largest number of passes.

    Returns:
      A new dictionary of variables, of the same structure.
    """
    measure = jax.jit(_divisors(module, tolerance))
    result = dict(variables)
    for _ in range(max_iterations):
        divisors = jax.device_get(measure(result, images))
        if all(divisor == 1 for divisor in divisors.values()):
            break
        params = traverse_util.flatten_dict(result["params"])
        for path, divisor in divisors.items():
            kernel = params[*path, "kernel"]
            params[*path, "kernel"] = (kernel / divisor).astype(kernel.dtype)
        result["params"] = traverse_util.unflatten_dict(params)
    return result


def _divisors(module: nn.Module, tolerance: float) -> Callable[[Any, Array], dict[Path, Array]]:
    """A function (variables, images) -> {path of a layer: divisor of its kernel}."""
    backbone: nn.Module = getattr(module, "backbone", module)
    ingredients = getattr(backbone, "ingredients", None)
    if ingredients is not None and ingredients.config.scan:  # a scanned layer has no path
        config = ingredients.config.model_copy(update={"scan": False})
        unrolled = backbone.clone(ingredients=dataclasses.replace(ingredients, config=config))
        module = unrolled if backbone is module else module.clone(backbone=unrolled)

    def forward(variables: Any, images: Array) -> dict[Path, Array]:
        divisors: dict[Path, Array] = {}

        def scale_output(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            layer = context.module
            if not isinstance(layer, LAYERS) or context.method_name != "__call__":
                return call(*args, **kwargs)
            x, *pools = args
            output = call(x)
            if layer.path not in divisors:
                divisors[layer.path] = _divisor(output, tolerance)
            bias = layer.variables["params"].get("bias", jnp.zeros(()))
            scaled = ((output - bias) / divisors[layer.path] + bias).astype(output.dtype)
            for pool in pools:  # of a convolution that pools its output
                scaled = scaled if pool is None else pool(scaled)
            return scaled

        with nn.intercept_methods(scale_output):
            module.apply(
                variables,
                images,
                train=True,
                keep_prob=1.0,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
        return divisors

    axis_name = getattr(ingredients, "axis_name", None)  # of the devices, here one
    return jax.vmap(forward, in_axes=None, out_axes=None, axis_name=axis_name, axis_size=1)


def _divisor(output: Array, tolerance: float) -> Array:
    """The standard deviation of a layer's output; 1 if that is within the tolerance, zero or
    not finite."""
    variance = jnp.var(output.astype(jnp.promote_types(output.dtype, jnp.float32)))
    within = jnp.abs(variance - 1) < tolerance
    return jnp.where(within | ~jnp.isfinite(variance) | (variance < 1e-30), 1, jnp.sqrt(variance))
