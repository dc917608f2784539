"""Networks of the user's own, adapted to the calls of all networks."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass, named_parameters
from cnnjax.nn.ingredients import Ingredients

TRAIN = {"train": True, "training": True, "deterministic": False, "use_running_average": False}
"""{possible name of the training argument: its value in training}."""


class Adapted(nn.Module):
    """A flax module, images -> logits, that is called as the networks of cnnjax are.

    `network` is called with images [B, H, W, C] in float32, and with those of `train` (or
    `training`, `deterministic`, `use_running_average`), `keep_prob` and `capture` that are its
    parameters. If it has no `capture`, its endpoints are the modules directly below it, by name.
    The paths of its variables are unchanged.
    """

    network: nn.Module

    def setup(self) -> None:
        """Gives the network's variables the paths that they have without this module."""
        nn.share_scope(self, self.network)

    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: str | Sequence[str] = (),
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> logits [B, num_classes]; with `capture`, also {name: features}."""
        values: dict[str, Any] = {name: train is value for name, value in TRAIN.items()}
        values |= {"keep_prob": keep_prob, "capture": capture}
        names = named_parameters(type(self.network).__call__)
        kwargs = {name: value for name, value in values.items() if name in names}
        forward = ForwardPass(train, keep_prob, () if "capture" in names else capture)

        def intercept(call: Any, args: Any, call_kwargs: Any, context: Any) -> Any:
            with nn.override_named_call(True):
                result = call(*args, **call_kwargs)
            below = context.module.parent is self.network and context.method_name == "__call__"
            if below and isinstance(result, jax.Array):
                forward.endpoint(context.module.name, result)
            return result

        # Name scopes in the program are those of the layers, without that of `network`.
        with nn.override_named_call(False), nn.intercept_methods(intercept):
            return forward.result(self.network(x, **kwargs))


def build(
    level: Any,
    ingredients: Ingredients,
    num_outputs: int | Mapping[str, int],
    image_shape: tuple[int, int, int],
) -> nn.Module:
    """The network of a level of the user's own.

    Args:
      level: a flax module; its class, or a function that returns it, called with those of
        `num_classes` (or `num_outputs`, `classes`) and `image_shape` that are its parameters; or a
        function (ingredients, num_classes, image_shape) -> module. A `Backbone` gets a head, other
        modules have their own.
      ingredients: the configured choices.
      num_outputs: outputs per image, such as the number of classes, or those by name.
      image_shape: (height, width, channels).

    Raises TypeError if the result is not a flax module, and whatever `level` raises.
    """
    network = level
    if not isinstance(level, nn.Module) and _has_three_parameters(level):
        network = level(ingredients, num_outputs, image_shape)
    elif not isinstance(level, nn.Module):
        counts = dict.fromkeys(("num_outputs", "num_classes", "classes"), num_outputs)
        values: dict[str, Any] = {**counts, "image_shape": image_shape}
        names = named_parameters(level)
        network = level(**{name: value for name, value in values.items() if name in names})
    if not isinstance(network, nn.Module):
        raise TypeError(f"model level: {network!r} is not a flax.linen module")
    complete = {"train", "keep_prob", "capture"} <= named_parameters(type(network).__call__)
    return network if complete or isinstance(network, Backbone) else Adapted(network)


def _has_three_parameters(level: Any) -> bool:
    """Whether `level` is a function, not a class, with three parameters without default."""
    named = named_parameters(level)
    parameters = inspect.signature(level).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.name in named]
    return not isinstance(level, type) and len(required) == 3
