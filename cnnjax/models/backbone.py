"""What all networks have in common: a backbone with named endpoints, and a head."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
from jax import Array

from cnnjax.errors import unknown
from cnnjax.nn.dropout import Dropout
from cnnjax.nn.ingredients import Ingredients

ALL_ENDPOINTS = ("*",)
"""The `capture` of all endpoints, in the order in which the network computes them."""

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def named_parameters(function: Any) -> set[str]:
    """The parameters of a function that can be passed by name."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind in _NAMED}


class ForwardPass:
    """How a network is called, and the endpoints that are captured on the way.

    Attributes:
      train: whether batches are normalised by their own statistics and dropout acts.
      keep_prob: replaces the configured keep_prob of dropout; None for the configured one.
      auxiliary: the features of the auxiliary heads, by name.
    """

    def __init__(
        self, train: bool, keep_prob: Array | float | None, capture: str | Sequence[str]
    ) -> None:
        self.train, self.keep_prob = train, keep_prob
        self.auxiliary: dict[str, Array] = {}
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
        return x

    def __call__(self, block: nn.Module, x: Array) -> Array:
        """`block(x)`, whose features, before any pooling in the block, are the endpoint of its
        name."""
        name = str(block.name)
        pool: Callable[[Array], Array] | None = getattr(block, "pool", None)
        if pool is None:
            return self.endpoint(name, block(x, train=self.train))
        if self.wants(name):
            return pool(self.endpoint(name, block(x, train=self.train, pooled=False)))
        self._names.append(name)
        return block(x, train=self.train)

    def dropout(self, dropout: Dropout, x: Array) -> Array:
        """`dropout(x)`."""
        return dropout(x, train=self.train, keep_prob=self.keep_prob)

    def result(self, outputs: Array) -> Array | tuple[Array, dict[str, Array]]:
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
    """A network without its head: what a family of architectures defines, by `features`."""

    ingredients: Ingredients

    def features(self, x: Array, forward: ForwardPass) -> Array:
        """The features of images, [B, H, W, C] in the dtype of the computation -> [B, n].

        A compact method. It passes what is an endpoint through `forward`.
        """
        raise NotImplementedError

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
    is called with `train` if it has such a parameter.
    In training, the outputs of auxiliary heads are sown into the collection `auxiliary`.
    """

    backbone: Backbone
    num_outputs: int
    head: nn.Module | None = None

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
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> outputs [B, num_outputs]; with `capture`, (outputs, {name: features}).

        `keep_prob`, possibly traced, replaces the configured one. Raises UserError for a name in
        `capture` that the network does not have.
        """
        make, forward = self.backbone.ingredients, ForwardPass(train, keep_prob, capture)
        x = self.backbone.features(x.astype(make.dtype), forward)
        for name, features in forward.auxiliary.items():
            outputs = make.dense(self.num_outputs, name=f"{name}_head")(features)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", outputs.astype(make.param_dtype))
        head = self.head or self.backbone.output_layer(self.num_outputs)
        options = {"train": train} if "train" in named_parameters(type(head).__call__) else {}
        return forward.result(head(x, **options).astype(make.param_dtype))
