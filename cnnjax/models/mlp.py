"""The multilayer perceptron: the network without convolutions to compare with."""

import flax.linen as nn
from jax import Array

from cnnjax.models.size import require_size
from cnnjax.models.taps import Taps
from cnnjax.nn.blocks import DenseBlock
from cnnjax.nn.ingredients import Ingredients


class MLP(nn.Module):
    """Fully connected hidden layers of `model.hidden` units on the flattened image.

    A pooling level other than `none` pools the image once before. Dropout follows each hidden
    layer; the units are the channels, so that `spatial` is the same as `plain`. Layers and
    endpoints: `pool`, `fc1`, `fc2`, ...; `head`.
    """

    ingredients: Ingredients
    classes: int

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: tuple[str, ...] = (),
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> logits [B, classes]; with `capture`, (logits, {name: features})."""
        make, tap = self.ingredients, Taps(capture)
        x = tap("pool", make.pool("pool")(x.astype(make.dtype)))
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(make.config.hidden or (), start=1):
            dense = DenseBlock(make, make.width(units), name=f"fc{index}")
            x = tap(f"fc{index}", dense(x, train=train))
            x = make.dropout(f"dropout{index}")(x, train=train, keep_prob=keep_prob)
        return tap.result(make.dense(self.classes, name="head")(x).astype(make.param_dtype))


def mlp(ingredients: Ingredients, classes: int, image_shape: tuple[int, int, int]) -> MLP:
    """The perceptron. Raises UserError for an image that is too small to be pooled."""
    require_size("mlp", image_shape, 2 if ingredients.pools else 1)
    return MLP(ingredients, classes)
