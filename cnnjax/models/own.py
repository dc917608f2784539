"""Networks of the user's own, in the form in which every network is called."""

import inspect
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from cnnjax.models.backbone import Backbone, Pass
from cnnjax.nn.ingredients import Ingredients

TRAIN = {"train": True, "training": True, "deterministic": False, "use_running_average": False}
"""What a network may call the argument that says whether it is trained, and its value if so."""


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Adapted(nn.Module):
    """A flax module, images in and logits out, called as the networks of cnnjax are.

    `network` is called with images [B, H, W, C] in float32, and with those of `train` (or
    `training`, `deterministic`, `use_running_average`), `keep_prob` and `capture` that it takes;
    the others are not passed on. Where it takes no `capture`, its endpoints are the layers directly
    below it, by their names. Its variables have the names that they have without this.
    """

    network: nn.Module

    def setup(self) -> None:
        """Puts the network in this module's place."""
        nn.share_scope(self, self.network)

    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: str | Sequence[str] = (),
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> logits [B, classes]; with `capture`, (logits, {name: features})."""
        given: dict[str, Any] = {name: train is value for name, value in TRAIN.items()}
        given |= {"keep_prob": keep_prob, "capture": capture}
        takes = _takes(type(self.network).__call__)
        words = {name: value for name, value in given.items() if name in takes}
        run = Pass(train, keep_prob, () if "capture" in takes else capture)

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            with nn.override_named_call(True):
                result = call(*args, **kwargs)
            below = context.module.parent is self.network and context.method_name == "__call__"
            if below and isinstance(result, jax.Array):
                run.tap(context.module.name, result)
            return result

        # The scopes of the program have the names of the layers, without that of `network`.
        with nn.override_named_call(False), nn.intercept_methods(intercept):
            return run.result(self.network(x, **words))


def build(
    level: Any, ingredients: Ingredients, num_outputs: int, image_shape: tuple[int, int, int]
) -> nn.Module:
    """The network that a level of the user's own stands for.

    Args:
      level: a flax module; its class, or a function that returns it, called with those of
        `num_classes` (or `num_outputs`, `classes`) and `image_shape` that it takes; or a function
        (ingredients, num_classes, image_shape) -> module. A `Backbone` gets a head of so many
        outputs, other modules give them themselves.
      ingredients: the configured choices.
      num_outputs: how many numbers the network gives for an image.
      image_shape: (height, width, channels).

    Raises TypeError where what it gives is no flax module, and what it raises.
    """
    network = level
    if not isinstance(level, nn.Module) and _needs_three(level):
        network = level(ingredients, num_outputs, image_shape)
    elif not isinstance(level, nn.Module):
        counts = dict.fromkeys(("num_outputs", "num_classes", "classes"), num_outputs)
        named: dict[str, Any] = {**counts, "image_shape": image_shape}
        takes = _takes(level)
        network = level(**{name: value for name, value in named.items() if name in takes})
    if not isinstance(network, nn.Module):
        raise TypeError(f"model level: {network!r} is no flax.linen module")
    complete = {"train", "keep_prob", "capture"} <= _takes(type(network).__call__)
    return network if complete or isinstance(network, Backbone) else Adapted(network)


def _needs_three(level: Any) -> bool:
    """Whether a function has to be given three arguments; a class of modules is none."""
    parameters = inspect.signature(level).parameters.values()
    needed = [one for one in parameters if one.default is one.empty and one.kind in _NAMED]
    return not isinstance(level, type) and len(needed) == 3


def _takes(function: Any) -> set[str]:
    """The names of the arguments that a function can be given by name."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind in _NAMED}
