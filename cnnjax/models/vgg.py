"""A VGG for small images."""

import flax.linen as nn
from jax import Array

from cnnjax.models.size import require_size
from cnnjax.nn.blocks import ConvBlock, DenseBlock
from cnnjax.nn.ingredients import Ingredients


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each followed by pooling, then hidden dense layers.

    After Simonyan and Zisserman 2015: only 3x3 convolutions, the channels double after each
    pooling. Dropout: `plain` after each hidden dense layer, `spatial` after each pooling. Layers:
    `conv1_1`, `conv1_2`, `pool1`, ..., `fc1`, ..., `head`.
    """

    ingredients: Ingredients
    classes: int
    stages: tuple[tuple[int, ...], ...]
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keep_prob: Array | float | None = None) -> Array:
        """x: [B, H, W, C] -> logits [B, classes]."""
        make = self.ingredients
        x = x.astype(make.dtype)
        for stage, widths in enumerate(self.stages, start=1):
            pool = make.pool(f"pool{stage}")
            for index, features in enumerate(widths, start=1):
                block = ConvBlock(make, features, name=f"conv{stage}_{index}")
                x = block(x, train=train, pool=pool if index == len(widths) else None)
            dropout = make.dropout(f"pool{stage}_dropout", only="spatial")
            x = dropout(x, train=train, keep_prob=keep_prob)
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(self.hidden, start=1):
            x = DenseBlock(make, units, name=f"fc{index}")(x, train=train)
            dropout = make.dropout(f"fc{index}_dropout", only="plain")
            x = dropout(x, train=train, keep_prob=keep_prob)
        return make.dense(self.classes, name="head")(x).astype(make.param_dtype)


def vgg_small(ingredients: Ingredients, classes: int, image_shape: tuple[int, int, int]) -> VGG:
    """Six convolutions of 32, 32, 64, 64, 128, 128 channels and one hidden layer of 128 units, for
    images of about 32x32. Raises UserError for images below 8x8 (with pooling)."""
    require_size("vgg_small", image_shape, 8 if ingredients.pools else 1)
    return VGG(ingredients, classes, ((32, 32), (64, 64), (128, 128)), (128,))
