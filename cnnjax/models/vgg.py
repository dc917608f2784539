"""VGG: stages of 3x3 convolutions, as published and for small images."""

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.models.size import require_size
from cnnjax.nn.blocks import ConvBlock, DenseBlock
from cnnjax.nn.ingredients import Ingredients

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""The convolutions of each stage (Simonyan and Zisserman 2015, table 1: A, B, D, E)."""


class VGG(Backbone):
    """Simonyan and Zisserman 2015, "Very Deep Convolutional Networks": stages of 3x3 convolutions,
    each followed by pooling, then `model.hidden` dense layers.

    `published`: normalisation follows the convolutions alone, which have biases, as in
    torchvision's `_bn` networks; otherwise it follows the dense layers too. Dropout: `plain` after
    each hidden dense layer, `spatial` after each pooling. Layers and endpoints: `conv1_1`,
    `conv1_2`, `pool1`, ..., `fc1`, ...; `head`. The maps are flattened whatever their size;
    torchvision first averages them to 7x7, their size for images of 224 pixels.
    """

    stages: tuple[tuple[int, ...], ...]
    published: bool = True

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, n]."""
        make = self.ingredients
        for stage, widths in enumerate(self.stages, start=1):
            for index, features in enumerate(widths, start=1):
                block = ConvBlock(
                    make,
                    make.width(features),
                    use_bias=True if self.published else None,
                    pool=make.pool(f"pool{stage}") if index == len(widths) else None,
                    name=f"conv{stage}_{index}",
                )
                x = forward(block, x)
            x = forward.endpoint(f"pool{stage}", x)
            x = forward.dropout(make.dropout(f"pool{stage}_dropout", only="spatial"), x)
        return x

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, n] -> [B, m]."""
        make = self.ingredients
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(make.config.hidden or (), start=1):
            name = f"fc{index}"
            dense = DenseBlock(make, make.width(units), normalize=not self.published, name=name)
            x = forward.dropout(make.dropout(f"{name}_dropout", only="plain"), forward(dense, x))
        return x


def vgg(ingredients: Ingredients, image_shape: tuple[int, int, int], *, depth: int) -> VGG:
    """A published network of 11, 13, 16 or 19 weighted layers. Raises UserError for images below
    32x32 (with pooling)."""
    require_size(f"vgg{depth}", image_shape, 32 if ingredients.pools else 1)
    widths = zip((64, 128, 256, 512, 512), CONVOLUTIONS[depth], strict=True)
    return VGG(ingredients, tuple((width,) * count for width, count in widths))


def vgg_small(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> VGG:
    """Six convolutions of 32, 32, 64, 64, 128, 128 channels and one hidden layer of 128 units, for
    images of about 32x32. Raises UserError for images below 8x8 (with pooling)."""
    require_size("vgg_small", image_shape, 8 if ingredients.pools else 1)
    stages = ((32, 32), (64, 64), (128, 128))
    return VGG(ingredients, stages, published=False)
