"""What the machine is, and how fast it multiplies and copies."""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax import machine as host
from tests.accelerator.part import Part

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "keras")
CEILINGS = {  # what a utilisation is a share of: dtype, precision
    "bfloat16": (jnp.bfloat16, "default"),
    "float32, default (TF32 on NVIDIA)": (jnp.float32, "default"),
    "float32, highest": (jnp.float32, "highest"),
}
"""The matrix products that are timed: type and `precision`."""


def machine(part: Part) -> None:
    """The part of this name."""
    device = jax.devices()[0]
    part.row("Machine", what="devices", value=f"{jax.device_count()} x {device.device_kind}")
    memory = (device.memory_stats() or {}).get("bytes_limit")
    part.row("Machine", what="device memory that jax may take, GB",
             value=round(memory / 1e9, 1) if memory else "not told")  # fmt: skip
    part.row("Machine", what="processor", value=f"{host.processor()}, {os.cpu_count()} threads")
    if shutil.which("nvidia-smi"):
        words = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader",
        ]
        told = subprocess.run(words, capture_output=True, text=True).stdout.strip()
        part.row("Machine", what="name, driver, memory", value=told)
    part.row("Machine", what="Python, system",
             value=f"{platform.python_version()}, {platform.platform()}")  # fmt: skip
    for name in PACKAGES:
        try:
            part.row("Machine", what=name, value=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            part.row("Machine", what=name, value="not installed")
    for name in CEILINGS:
        part.attempt(name, _product, part, name)
    part.attempt("copy", _copy, part)


def _product(part: Part, name: str) -> None:
    dtype, precision = CEILINGS[name]
    size = 256 if part.tiny else 8192
    x = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    y = jax.random.normal(jax.random.key(1), (size, size)).astype(dtype)
    took = seconds(lambda a, b: jnp.matmul(a, b, precision=precision), part.tiny, x, y)
    part.row("Ceilings", of=f"product, {name}", value=2 * size**3 / took / 1e12, unit="TFLOP/s")


def _copy(part: Part) -> None:
    array = jnp.ones(2**16 if part.tiny else 2**30, jnp.bfloat16)
    took = seconds(lambda a: a + 1, part.tiny, array)
    part.row("Ceilings", of="copy, read and written", value=2 * array.nbytes / took / 1e9,
             unit="GB/s")  # fmt: skip


def seconds(function: Callable[..., jax.Array], tiny: bool, *arguments: jax.Array) -> float:
    """The median seconds of a compiled call, over rounds of several."""
    compiled, calls, found = jax.jit(function), 2 if tiny else 10, []
    jax.block_until_ready(compiled(*arguments))
    for _ in range(3 if tiny else 7):
        started = time.perf_counter()
        last = [compiled(*arguments) for _ in range(calls)][-1]
        jax.block_until_ready(last)
        found.append((time.perf_counter() - started) / calls)
    return statistics.median(found)
