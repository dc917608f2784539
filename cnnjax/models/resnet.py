"""Residual networks for small images, and the plain networks they are compared with."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cnnjax.models.size import require_size
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.ingredients import Ingredients


def option_a(x: Array, like: Array) -> Array:
    """The shortcut without parameters (He et al. 2015, sec. 4.2, option A).

    [B, H, W, C] -> the shape of `like`: every second pixel where `like` is smaller, and zero
    channels, half of them before and half after.
    """
    _, height, width, features = like.shape
    if x.shape[1:3] != like.shape[1:3]:
        x = x[:, ::2, ::2][:, :height, :width]
    missing = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class Block(nn.Module):
    """Two 3x3 convolutions, and the shortcut added before the last activation.

    Convolution, norm, activation, dropout, convolution, norm, addition, activation. Placement
    `after` swaps the first norm with its activation; the last norm stays before the addition. In
    a down-sampling block the first convolution has stride 2 (pooling `strided`), or stride 1 and
    is followed by the pooling.
    """

    ingredients: Ingredients
    features: int
    downsample: bool
    residual: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keep_prob: Array | float | None) -> Array:
        """x: [B, H, W, C] -> [B, H', W', features]."""
        make = self.ingredients
        strided = self.downsample and make.config.pooling == "strided"
        pool = make.pool("pool") if self.downsample and not strided else None
        block = ConvBlock(make, self.features, strides=2 if strided else 1, name="conv1")
        y = block(x, train=train, pool=pool)
        y = make.dropout("dropout")(y, train=train, keep_prob=keep_prob)
        y = ConvBlock(make, self.features, activate=False, name="conv2")(y, train=train)
        if self.residual:
            y = y + option_a(x, y)
        return make.activation("activation")(y)


class ResNet(nn.Module):
    """He et al. 2015, "Deep Residual Learning", sec. 4.2: a 3x3 convolution of 16 channels, three
    stages of `blocks` blocks with 16, 32 and 64 channels, global average pooling, one dense layer.

    Depth 6 * blocks + 2. Without `residual` it is the plain twin of as many parameters. Layers:
    `conv1`, `stage1_block1`, ..., `head`. Dropout, of either kind, sits between the two
    convolutions of each block; the paper has none.
    """

    ingredients: Ingredients
    classes: int
    blocks: int
    residual: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keep_prob: Array | float | None = None) -> Array:
        """x: [B, H, W, C] -> logits [B, classes]."""
        make = self.ingredients
        x = ConvBlock(make, 16, name="conv1")(x.astype(make.dtype), train=train)
        for stage, features in enumerate((16, 32, 64), start=1):
            for block in range(1, self.blocks + 1):
                x = Block(
                    make,
                    features,
                    downsample=stage > 1 and block == 1,
                    residual=self.residual,
                    name=f"stage{stage}_block{block}",
                )(x, train=train, keep_prob=keep_prob)
        x = x.mean(axis=(1, 2))
        return make.dense(self.classes, name="head")(x).astype(make.param_dtype)


def resnet(
    ingredients: Ingredients,
    classes: int,
    image_shape: tuple[int, int, int],
    *,
    depth: int,
    residual: bool = True,
) -> ResNet:
    """A network of `depth` = 6n + 2 weighted layers.

    Raises UserError for images that are too small to be pooled twice.
    """
    name = f"{'resnet' if residual else 'plain'}{depth}"
    one_pixel_works = ingredients.config.pooling in ("none", "strided")
    require_size(name, image_shape, 1 if one_pixel_works else 4)
    return ResNet(ingredients, classes, (depth - 2) // 6, residual)


plain = functools.partial(resnet, residual=False)
