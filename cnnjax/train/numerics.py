"""What float32 means on an accelerator, and whether its programs always give the same bits.

On a CPU both are settled: float32 is float32, and a program gives the same bits every time. So
nothing is changed there, and its programs are the same whatever the fields say.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from cnnjax.config import Training

FLOAT32 = "float32"
"""What is recorded as the precision where a product of float32 numbers is one of float32."""

P = ParamSpec("P")
R = TypeVar("R")


def used(training: Training, backend: str) -> dict[str, Any]:
    """What a run on `backend` (`cpu`, `gpu`, `tpu`) computes with, as its record has it:
    `matmul_precision` and `deterministic`."""
    return {
        "matmul_precision": FLOAT32 if backend == "cpu" else training.matmul_precision,
        "deterministic": backend == "cpu" or (backend == "gpu" and training.deterministic),
    }


def precision(name: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which products and convolutions are traced with a precision of `used`."""
    return contextlib.nullcontext() if name == FLOAT32 else jax.default_matmul_precision(name)


def at_precision(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """`function`, traced with a precision of `used`: gradients that are taken inside of it have
    it too, and so has what the function is mapped or scanned with."""
    if name == FLOAT32:
        return function

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with precision(name):
            return function(*args, **kwargs)

    return traced


def compiler_options(backend: str, deterministic: bool) -> dict[str, Any]:
    """What `jax.jit` is to be given as `compiler_options` for a program to be deterministic. XLA
    then takes the first of several kernels instead of timing them, and none that adds up in an
    order of its own."""
    return {"xla_gpu_deterministic_ops": True} if deterministic and backend == "gpu" else {}
