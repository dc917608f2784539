"""The multilayer perceptron: a network without convolutions, for comparison."""

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.models.size import require_size
from cnnjax.nn.blocks import DenseBlock
from cnnjax.nn.ingredients import Ingredients


class MLP(Backbone):
    """Fully connected hidden layers of `model.hidden` units on the flattened image.

    A pooling level other than `none` pools the image once, first. Dropout follows each hidden
    layer; `spatial` is the same as `plain`, since units are channels. Layers and
    endpoints: `pool`, `fc1`, `fc2`, ...; `head`.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> the same, pooled."""
        return forward.pool("pool", self.ingredients.pool("pool"), x)

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, units]."""
        make = self.ingredients
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(make.config.hidden or (), start=1):
            x = forward(DenseBlock(make, make.width(units), name=f"fc{index}"), x)
            x = forward.dropout(make.dropout(f"dropout{index}"), x)
        return x


def mlp(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> MLP:
    """The perceptron. Raises UserError for an image that is too small to be pooled."""
    require_size("mlp", image_shape, 2 if ingredients.pools else 1)
    return MLP(ingredients)
