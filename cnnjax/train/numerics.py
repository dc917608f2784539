"""The precision of float32 products on an accelerator, and deterministic programs.

On a CPU products of float32 numbers are float32, and programs are deterministic. There the fields
change nothing.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from cnnjax.config import Training

FLOAT32 = "float32"
"""The precision of a product of float32 numbers that is computed in float32."""

P = ParamSpec("P")
R = TypeVar("R")


def resolve(training: Training, backend: str) -> dict[str, Any]:
    """The fields of runtime.json that say how a run on `backend` (`cpu`, `gpu`, `tpu`) computes:
    `matmul_precision` and `deterministic`."""
    return {
        "matmul_precision": FLOAT32 if backend == "cpu" else training.matmul_precision,
        "deterministic": backend == "cpu" or (backend == "gpu" and training.deterministic),
    }


def precision(name: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which products and convolutions are traced with a precision of `resolve`."""
    return contextlib.nullcontext() if name == FLOAT32 else jax.default_matmul_precision(name)


def at_precision(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """`function`, traced with a precision of `resolve`. It also applies to gradients inside the
    function, and where the function is mapped or scanned."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with precision(name):
            return function(*args, **kwargs)

    return traced


def compiler_options(backend: str, deterministic: bool) -> dict[str, Any]:
    """The `compiler_options` of `jax.jit`. For a deterministic program XLA takes the first of
    several kernels instead of timing them, and none whose order of summation varies."""
    return {"xla_gpu_deterministic_ops": True} if deterministic and backend == "gpu" else {}
