"""The operations that have several forms, and the one place where a form is chosen.

XLA compiles the plain forms well for GPUs and TPUs. For a CPU it does not: there the gradient of a
convolution costs several times what it has to, and that of a reduction window many times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
from jax import Array, lax

from cnnjax.nn import pooling
from cnnjax.nn.convolution import Convolve
from cnnjax.nn.native import convolution as native_convolution
from cnnjax.nn.native import normalization as native_normalization
from cnnjax.nn.native import pooling as native_pooling


@dataclass(frozen=True)
class Operations:
    """Functions that compute the same in every form, but for rounding.

    Attributes:
      convolve: `jax.lax.conv_general_dilated`, or a function that takes and gives the same.
      max_pool: the largest element of each window, see `cnnjax.nn.pooling.max_pool`.
      batch_norm: `flax.linen.BatchNorm`, or a module that is made with the same arguments.
    """

    convolve: Convolve = lax.conv_general_dilated
    max_pool: Callable[..., Array] = pooling.reduce_window_max
    batch_norm: Callable[..., nn.Module] = nn.BatchNorm


PLAIN = Operations()
SLICED = Operations(max_pool=pooling.max_pool)
NATIVE = Operations(
    native_convolution.conv_general_dilated,
    native_pooling.max_pool,
    native_normalization.BatchNorm,
)


def choose(backend: str, convolution: str, *, deterministic: bool = False) -> Operations:
    """The forms for a backend (`cpu`, `gpu`, `tpu`) and a convolution (`xla` or `native`).

    XLA has no deterministic gradient of a maximum over windows for GPUs, and refuses to compile
    one where `deterministic` programs are asked for (UNIMPLEMENTED, select-and-scatter)."""
    if convolution == "native":
        return NATIVE
    return SLICED if backend == "cpu" or (deterministic and backend == "gpu") else PLAIN
