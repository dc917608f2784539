"""What all networks have in common: a backbone with named endpoints, and a head."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core import FrozenDict
from jax import Array

from cnnjax.errors import unknown
from cnnjax.nn.dropout import Dropout
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window

ALL_ENDPOINTS = ("*",)
"""The `capture` of all endpoints, in the order in which the network computes them."""

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def named_parameters(function: Any) -> set[str]:
    """The parameters of a function that can be passed by name."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind in _NAMED}


def train_argument(module: Any, train: bool) -> dict[str, bool]:
    """{"train": train} if a module is called with such a parameter, else {}."""
    return {"train": train} if "train" in named_parameters(type(module).__call__) else {}


class Pooled(NamedTuple):
    """A pooling that was computed: its window, and the feature maps before and after it."""

    window: Window
    before: Array
    after: Array


class ForwardPass:
    """How a network is called, and the endpoints that are captured on the way.

    Attributes:
      train: whether batches are normalised by their own statistics and dropout acts.
      keep_prob: replaces the configured keep_prob of dropout; None for the configured one.
      spatial: whether the backbone stops at its last feature maps.
      auxiliary: the features of the auxiliary heads, by name.
      maps: with `spatial`, the feature maps in the order in which they were computed.
      pools: with `spatial`, the poolings between blocks.
    """

    def __init__(
        self,
        train: bool,
        keep_prob: Array | float | None,
        capture: str | Sequence[str],
        *,
        spatial: bool = False,
    ) -> None:
        self.train, self.keep_prob, self.spatial = train, keep_prob, spatial
        self.auxiliary: dict[str, Array] = {}
        self.maps: list[Array] = []
        self.pools: list[Pooled] = []
        self._requested = (capture,) if isinstance(capture, str) else tuple(capture)
        self._names: list[str] = []
        self._captured: dict[str, Array] = {}

    @property
    def captures(self) -> bool:
        """Whether any endpoint is captured."""
        return bool(self._requested)

    def wants(self, name: str) -> bool:
        """Whether the endpoint `name` is captured."""
        return name in self._requested or self._requested == ALL_ENDPOINTS

    def endpoint(self, name: str, x: Array) -> Array:
        """Captures x as the endpoint `name`, and returns x."""
        self._names.append(name)
        if self.wants(name):
            self._captured[name] = x
        return self.map(x)

    def map(self, x: Array) -> Array:
        """Keeps feature maps x, [B, H, W, C], for a decoder, and returns x."""
        if self.spatial and x.ndim == 4:
            self.maps.append(x)
        return x

    def pool(self, name: str, pool: Any, x: Array) -> Array:
        """`pool(x)`, the endpoint `name`; `pool` is by `Ingredients.pool`."""
        return self.endpoint(name, self._pool(pool, x))

    def _pool(self, pool: Any, x: Array) -> Array:
        y: Array = pool(x)
        if self.spatial:
            self.pools.append(Pooled(pool.window, x, y))
        return y

    def __call__(self, block: nn.Module, x: Array) -> Array:
        """`block(x)`, whose features, before any pooling in the block, are the endpoint of its
        name."""
        name = str(block.name)
        pool = getattr(block, "pool", None)
        if pool is None:
            return self.endpoint(name, block(x, train=self.train))
        if self.wants(name) or self.spatial:
            x = self.endpoint(name, block(x, train=self.train, pooled=False))
            return self._pool(pool, x)
        self._names.append(name)
        return block(x, train=self.train)

    def dropout(self, dropout: Dropout, x: Array) -> Array:
        """`dropout(x)`."""
        return dropout(x, train=self.train, keep_prob=self.keep_prob)

    def result(self, outputs: Any) -> Any:
        """`outputs`, or (outputs, {endpoint: features}) if any is captured.

        Raises UserError for a name that the network does not have.
        """
        if not self._requested:
            return outputs
        for name in self._requested if self._requested != ALL_ENDPOINTS else ():
            if name not in self._captured:
                raise unknown("capture", name, self._names)
        return outputs, self._captured


class Backbone(nn.Module):
    """A network without its head: what a family of architectures defines, by `maps` and `vector`.

    Both are part of the compact method `features`, which a backbone that is never an encoder may
    define instead. They pass what is an endpoint through `forward`.
    """

    ingredients: Ingredients

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """The last feature maps: [B, H, W, C] in the dtype of the computation -> [B, h, w, n]."""
        raise NotImplementedError

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """The features of an image, from its last maps: [B, h, w, n] -> [B, m]. By default the mean
        over the positions."""
        return x.mean(axis=(1, 2))

    @nn.compact
    def features(self, x: Array, forward: ForwardPass) -> Array:
        """[B, H, W, C] in the dtype of the computation -> [B, m]; with `forward.spatial` the last
        maps, [B, h, w, n]."""
        x = self.maps(x, forward)
        return x if forward.spatial else self.vector(x, forward)

    @nn.nowrap
    def output_layer(self, num_outputs: int) -> Callable[[Array], Array]:
        """The default head, a layer `head`: [B, n] -> [B, num_outputs]."""
        return self.ingredients.dense(num_outputs, name="head")

    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: str | Sequence[str] = (),
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> features [B, n]; with `capture`, (features, {name: endpoint})."""
        forward = ForwardPass(train, keep_prob, capture)
        return forward.result(self.features(x.astype(self.ingredients.dtype), forward))


class Network(nn.Module):
    """A backbone and a head. The variables of the backbone have the same paths as without head.

    `head` is a module, [B, n] -> outputs [B, num_outputs], or None for the backbone's own layer. It
    is called with `train` if it has such a parameter. If `num_outputs` is a mapping, there is a
    fully connected layer NAME_head for each name, and the outputs are {name: [B, number]}; names in
    `trunks` have a backbone of their own.
    In training, the outputs of auxiliary heads are sown into the collection `auxiliary`.
    """

    backbone: Backbone
    num_outputs: int | Mapping[str, int]
    head: nn.Module | None = None
    trunks: Mapping[str, Backbone] = FrozenDict()

    def setup(self) -> None:
        """Gives the backbone's variables the paths that they have without this module."""
        nn.share_scope(self, self.backbone)

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: str | Sequence[str] = (),
    ) -> Any:
        """x: [B, H, W, C] -> outputs [B, num_outputs] or {name: [B, number]}; with `capture`,
        (outputs, {name: features}).

        `keep_prob`, possibly traced, replaces the configured one. Raises UserError for a name in
        `capture` that the network does not have.
        """
        make, forward = self.backbone.ingredients, ForwardPass(train, keep_prob, capture)
        images = x.astype(make.dtype)
        x = self.backbone.features(images, forward)
        for name, features in forward.auxiliary.items():
            outputs = self._outputs(features, name)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", outputs)
        if self.head is None:
            separate = {
                name: trunk.features(images, ForwardPass(train, keep_prob, ()))
                for name, trunk in self.trunks.items()
            }
            return forward.result(self._outputs(x, "", separate))
        outputs = self.head(x, **train_argument(self.head, train))
        return forward.result(outputs.astype(make.param_dtype))

    @nn.nowrap
    def _outputs(
        self, x: Array, auxiliary: str, separate: Mapping[str, Array] = FrozenDict()
    ) -> Any:
        """The outputs of the last layer, or of a layer for each name, from the features x or those
        of a separate trunk; `auxiliary` is the name of an auxiliary head."""
        make, prefix = self.backbone.ingredients, f"{auxiliary}_" if auxiliary else ""
        if isinstance(self.num_outputs, Mapping):
            outputs: Any = {
                name: make.dense(number, name=f"{prefix}{name}_head")(separate.get(name, x))
                for name, number in self.num_outputs.items()
            }
        elif auxiliary:
            outputs = make.dense(self.num_outputs, name=f"{auxiliary}_head")(x)
        else:
            outputs = self.backbone.output_layer(self.num_outputs)(x)
        return jax.tree.map(lambda array: array.astype(make.param_dtype), outputs)
