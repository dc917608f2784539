"""The configured choices of a model, in the form in which every architecture takes them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.config import Levels, Model, ResolvedModel, resolve_model
from cnnjax.errors import unknown
from cnnjax.nn.activations import ACTIVATIONS, NEVER_FALLING, Activation, PReLU, leaky_relu
from cnnjax.nn.convolution import Conv, Padding, SparseConv
from cnnjax.nn.dropout import Dropout
from cnnjax.nn.initializers import INITIALIZERS, Initializer
from cnnjax.nn.normalization import NORMS, Batch
from cnnjax.nn.operations import PLAIN, Operations
from cnnjax.nn.pooling import HALVE, POOLINGS, Window


@dataclass(frozen=True)
class Ingredients:
    """Makes the layers of a model. The methods are called in compact methods of flax modules.

    `config` holds no `default` any more. Computation is in `dtype`, parameters are in
    `param_dtype`; `axis_name` is the pmap axis over which batch norm takes its statistics;
    `operations` are the forms of the operations that have several.
    """

    config: ResolvedModel
    activation_level: Activation | type[nn.Module]
    initializer: Callable[[int], Initializer]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None
    operations: Operations = PLAIN

    def width(self, features: int, multiple: int = 1) -> int:
        """So many channels or units times `model.width`, rounded to a multiple, at least one."""
        return multiple * max(1, round(features * self.config.width / multiple))

    def activation(self, name: str) -> Callable[[Array], Array]:
        """The activation; `name` is used where it has parameters."""
        if self.activation_level is PReLU:
            return PReLU(param_dtype=self.param_dtype, name=name)
        return _layer(self.activation_level, name=name)

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
    ) -> Conv:
        """A convolution: [B, H, W, C] -> [B, H', W', features]. `kernel` is the side of a square or
        (height, width)."""
        return Conv(
            features,
            kernel if isinstance(kernel, tuple) else (kernel, kernel),
            self.initializer(groups),
            strides=strides,
            padding=padding,
            groups=groups,
            use_bias=use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            convolve=self.operations.convolve,
            name=name,
        )

    def sparse_conv(
        self,
        connections: tuple[tuple[int, ...], ...],
        kernel: int | tuple[int, int],
        *,
        name: str,
        use_bias: bool,
    ) -> SparseConv:
        """A convolution with a table of connections, see `SparseConv`."""
        return SparseConv(
            connections,
            kernel if isinstance(kernel, tuple) else (kernel, kernel),
            self.initializer(1),
            use_bias=use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            convolve=self.operations.convolve,
            name=name,
        )

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
            self.config.norm,
            Batch(train, self.axis_name, self.operations.batch_norm),
            scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def dropout(self, name: str, *, only: Literal["plain", "spatial"] | None = None) -> Dropout:
        """The dropout layer, called with `train` and `keep_prob`. With `only` it is there for that
        kind: `plain` at places of units, `spatial` at places of feature maps."""
        chosen = self.config.dropout
        keep_prob = chosen.keep_prob if only in (None, chosen.kind) else 1.0
        return Dropout(keep_prob, chosen.scaling, chosen.kind, name=name)

    def pool(self, name: str, window: Window = HALVE) -> Callable[[Array], Array]:
        """The pooling layer: [B, H, W, C] -> [B, H', W', C] (`none` keeps the size)."""
        level: Any = POOLINGS[self.config.pooling]
        if self.config.pooling == "max":
            level = self.operations.max_pool
        if isinstance(level, type):
            return level(ingredients=self, window=window, name=name)
        return jax.named_scope(name)(functools.partial(level, window=window))

    @property
    def pool_passes_activation(self) -> bool:
        """Whether pooling before the activation gives what pooling after it does: the largest
        element stays the largest under a function that never falls."""
        return self.config.pooling == "max" and self.activation_level in NEVER_FALLING

    @property
    def pools(self) -> bool:
        """Whether the pooling level makes feature maps smaller."""
        return self.config.pooling != "none"


def build(
    config: Model,
    *,
    levels: Levels | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    axis_name: str | None = None,
    operations: Operations = PLAIN,
) -> Ingredients:
    """The ingredients of a configuration; `default` becomes the architecture's published choice.

    A level of the user's own, looked up after the built-in ones, is a function of an array or a
    flax module class without fields (activation), or init(key, shape, dtype) (initializer).
    Raises UserError for a name that is in neither.
    """
    own, config = levels or {}, resolve_model(config)
    activation = _level("activation", config.activation, ACTIVATIONS, own)
    if activation is leaky_relu:
        activation = functools.partial(leaky_relu, slope=config.leaky_slope)
    if config.initializer in INITIALIZERS:
        initializer = functools.partial(INITIALIZERS[config.initializer], config)
    else:
        init = _level("initializer", config.initializer, INITIALIZERS, own)
        initializer = functools.partial(_same, init)
    return Ingredients(config, activation, initializer, dtype, param_dtype, axis_name, operations)


def _same(init: Initializer, groups: int) -> Initializer:
    return init


def _level(kind: str, name: str, known: Mapping[str, Any], levels: Levels) -> Any:
    own = levels.get(kind, {})
    if name not in known and name not in own:
        raise unknown(f"model.{kind}", name, [*known, *own])
    return known[name] if name in known else own[name]


def _layer(level: Any, **fields: Any) -> Callable[[Array], Array]:
    """A function as it is; a module class made with its fields."""
    is_module = isinstance(level, type) and issubclass(level, nn.Module)
    return level(**fields) if is_module else level
