"""The configured choices of a model, as every architecture takes them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cnnjax.config import Levels, Model, ResolvedModel, resolve_model
from cnnjax.errors import unknown
from cnnjax.nn.activations import ACTIVATIONS, NON_DECREASING, Activation, PReLU, leaky_relu
from cnnjax.nn.convolution import Connections, Conv, ConvolvedDense, Padding, SparseConv
from cnnjax.nn.dropout import Dropout
from cnnjax.nn.initializers import INITIALIZERS, Initializer
from cnnjax.nn.normalization import NORMS
from cnnjax.nn.operations import PLAIN, Operations
from cnnjax.nn.pooling import HALVE, POOLINGS, Pooling, Window
from cnnjax.nn.upsampling import Size, TransposedConv


@dataclass(frozen=True)
class Ingredients:
    """Makes the layers of a model. The methods are called in compact methods of flax modules.

    `config` is resolved: no field is `default`. Computation is in `dtype`, parameters are in
    `param_dtype`; `axis_name` is the pmap axis over which batch norm takes its statistics;
    `operations` are the implementations to use.
    """

    config: ResolvedModel
    activation_level: Activation | type[nn.Module]
    initializer: Callable[[int], Initializer]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    operations: Operations = PLAIN

    def width(self, features: int, multiple: int = 1) -> int:
        """`features` channels or units times `model.width`, rounded to a multiple, at least one."""
        return multiple * max(1, round(features * self.config.width / multiple))

    def activation(self, name: str) -> Callable[[Array], Array]:
        """The activation; `name` is that of the module if it has parameters."""
        level: Any = self.activation_level
        if level is PReLU:
            return PReLU(param_dtype=self.param_dtype, name=name)
        if isinstance(level, type) and issubclass(level, nn.Module):
            return level(name=name)
        return level

    @property
    def _arithmetic(self) -> dict[str, Any]:
        """The fields of all layers that convolve: their types and the implementation."""
        return {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "convolve": self.operations.convolve,
        }

    def conv(
        self,
        features: int,
        kernel: int | tuple[int, int],
        *,
        name: str,
        strides: int = 1,
        padding: Padding = "SAME",
        groups: int = 1,
        use_bias: bool = True,
        connections: Connections | None = None,
    ) -> Conv | SparseConv:
        """A convolution: [B, H, W, C] -> [B, H', W', features]. `kernel` is the side of a square or
        (height, width). With a table of `connections` it is a `SparseConv`, which has no strides,
        padding or groups."""
        size = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        initializer = self.initializer(groups)
        fields: dict[str, Any] = {"use_bias": use_bias, "name": name, **self._arithmetic}
        if connections is not None:
            return SparseConv(connections, size, initializer, **fields)
        return Conv(features, size, initializer, strides, padding, groups, **fields)

    def transposed_conv(
        self,
        features: int,
        size: Size,
        *,
        name: str,
        strides: Size | None = None,
        use_bias: bool = True,
    ) -> TransposedConv:
        """A transposed convolution: [B, h, w, C] -> [B, *size, features], of the configured kernel
        and initial weights. `strides` are by default the ratio of the sizes."""
        init = None if self.config.transposed_init == "bilinear" else self.initializer(1)
        kernel, fields = self.config.transposed_kernel or 4, self._arithmetic
        return TransposedConv(
            features, size, init, kernel, strides, use_bias=use_bias, name=name, **fields
        )

    def convolved_dense(self, features: int, side: int, *, name: str) -> ConvolvedDense:
        """A fully connected layer of maps [side, side, C], at all positions: [B, H, W, C] ->
        [B, H, W, features]."""
        return ConvolvedDense(features, side, self.initializer(1), name=name, **self._arithmetic)

    def dense(self, features: int, *, name: str, use_bias: bool = True) -> nn.Dense:
        """A fully connected layer: [B, n] -> [B, features]."""
        return nn.Dense(
            features,
            use_bias=use_bias,
            kernel_init=self.initializer(1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def norm(self, name: str, *, train: bool, zero_scale: bool = False) -> Callable[[Array], Array]:
        """The normalisation layer; its scale starts at one, or at zero."""
        return NORMS[self.config.norm.kind](
            self,
            train,
            scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def dropout(self, name: str, *, only: Literal["plain", "spatial"] | None = None) -> Dropout:
        """The dropout layer, called with `train` and `keep_prob`. With `only` it acts if dropout is
        of that kind: `plain` between dense layers, `spatial` between feature maps."""
        dropout = self.config.dropout
        keep_prob = dropout.keep_prob if only in (None, dropout.kind) else 1.0
        return Dropout(keep_prob, dropout.scaling, dropout.kind, name=name)

    def pool(self, name: str, window: Window = HALVE) -> Any:
        """The pooling layer: [B, H, W, C] -> [B, H', W', C] (`none` keeps the size). It has the
        attribute `window`."""
        level: Any = POOLINGS[self.config.pooling]
        if self.config.pooling == "max":
            level = self.operations.max_pool
        if isinstance(level, type):
            return level(ingredients=self, window=window, name=name)
        return Pooling(level, window, name)

    @property
    def pooling_commutes(self) -> bool:
        """Whether pooling before and after the activation are the same: the largest element stays
        the largest under a non-decreasing function."""
        return self.config.pooling == "max" and self.activation_level in NON_DECREASING

    @property
    def pools(self) -> bool:
        """Whether pooling makes feature maps smaller."""
        return self.config.pooling != "none"


def build(
    config: Model,
    *,
    levels: Levels | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    axis_name: str | None = None,
    operations: Operations = PLAIN,
    per_pixel: bool = False,
) -> Ingredients:
    """The ingredients of a configuration; `default` becomes the architecture's published choice.

    `levels` are the user's own, looked up after the built-in ones: an activation is a function of
    an array or a flax module class without fields, an initializer is init(key, shape, dtype).
    With `per_pixel` the model is that of a per-pixel task.
    Raises UserError for a name that is in neither.
    """
    levels, config = levels or {}, resolve_model(config, per_pixel=per_pixel)
    activation = _level("activation", config.activation, ACTIVATIONS, levels)
    if activation is leaky_relu:
        activation = functools.partial(leaky_relu, slope=config.leaky_slope)
    level = _level("initializer", config.initializer, INITIALIZERS, levels)
    built_in = config.initializer in INITIALIZERS
    initializer = functools.partial(level, config) if built_in else lambda groups: level
    return Ingredients(config, activation, initializer, dtype, param_dtype, axis_name, operations)


def _level(kind: str, name: str, built_in: Mapping[str, Any], levels: Levels) -> Any:
    table = {**levels.get(kind, {}), **built_in}
    if name not in table:
        raise unknown(f"model.{kind}", name, [*built_in, *levels.get(kind, {})])
    return table[name]
