"""Residual networks, for small images and for ImageNet, and the plain networks beside them."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.models.size import require_size
from cnnjax.nn.blocks import ConvBlock, rematerialized
from cnnjax.nn.dropout import drop_path
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window
from cnnjax.nn.scan import scan_blocks

STEM_POOL = Window(3, 2, 1)
IMAGENET = {  # depth: (blocks of each stage, whether they are bottlenecks)
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def option_a(x: Array, like: Array) -> Array:
    """The shortcut without parameters (He et al. 2015, sec. 4.2, option A).

    [B, H, W, C] -> the shape of `like`: every second pixel if `like` is smaller, and zero
    channels, half of them before and half after.
    """
    _, height, width, features = like.shape
    if x.shape[1:3] != like.shape[1:3]:
        x = x[:, ::2, ::2][:, :height, :width]
    missing = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1 with four times the channels, and
    the shortcut added before the last activation.

    Convolution, norm, activation, ..., dropout, convolution, norm, addition, activation. Placement
    `after` swaps a norm with its activation; the last norm stays before the addition. A block that
    halves the image does so in its first 3x3 convolution (`model.stride_on=middle`: torchvision's
    "v1.5") or, in a bottleneck, in its first 1x1 (`first`: the paper, Keras). With
    `pooled`, as in the networks for small images, a pooling level other than `strided` halves it
    instead, after the first convolution.

    `model.shortcut`: `A` is `option_a`; `B` a 1x1 convolution with norm where the shape changes;
    `C` one in every block.
    """

    ingredients: Ingredients
    features: int
    downsample: bool
    bottleneck: bool
    residual: bool
    pooled: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        survival: Array | float = 1.0,
        *,
        train: bool,
        keep_prob: Array | float | None,
    ) -> Array:
        """x: [B, H, W, C] -> [B, H', W', features], or four times as many. `survival` is the
        probability that stochastic depth keeps the block for an example in training."""
        make, features = self.ingredients, self.features
        pooled = self.pooled and self.downsample and make.config.pooling != "strided"
        stride = 2 if self.downsample and not pooled else 1

        def conv(index: int, features: int, kernel: int, stride: int, **fields: Any) -> ConvBlock:
            padding, name = ((kernel // 2, kernel // 2),) * 2, f"conv{index}"
            return ConvBlock(make, features, kernel, stride, padding, name=name, **fields)

        pool = make.pool("pool") if pooled else None
        zero_scale = bool(make.config.zero_last_scale) and self.residual
        end = {"activate": False, "zero_scale": zero_scale}
        if self.bottleneck:
            first = stride if make.config.stride_on == "first" else 1
            y = conv(1, features, 1, first)(x, train=train)
            y = conv(2, features, 3, stride // first, pool=pool)(y, train=train)
            last = conv(3, 4 * features, 1, 1, **end)
        else:
            y = conv(1, features, 3, stride, pool=pool)(x, train=train)
            last = conv(2, features, 3, 1, **end)
        y = make.dropout("dropout")(y, train=train, keep_prob=keep_prob)
        y = last(y, train=train)
        if self.residual:
            if train and make.config.stochastic_depth:
                y = drop_path(y, survival, self.make_rng("dropout"))
            y = y + self._shortcut(x, y, train)
        return make.activation("activation")(y)

    def _shortcut(self, x: Array, y: Array, train: bool) -> Array:
        kind = self.ingredients.config.shortcut
        if kind == "C" or (kind == "B" and x.shape != y.shape):
            stride = 1 if x.shape[1:3] == y.shape[1:3] else 2
            block = ConvBlock(
                self.ingredients, y.shape[-1], 1, stride, activate=False, name="shortcut"
            )
            return block(x, train=train)[:, : y.shape[1], : y.shape[2]]
        return option_a(x, y)


class ResNet(Backbone):
    """He et al. 2015, "Deep Residual Learning".

    For small images (sec. 4.2): a 3x3 convolution of 16 channels, three stages of 16, 32 and 64.
    `imagenet` (table 1): a 7x7 convolution of 64 channels with stride 2, pooling over 3x3 windows
    with stride 2, four stages of 64 to 512. Then global average pooling and one dense layer.
    Without `residual` it is the plain twin. Layers and endpoints: `conv1`, `pool1` (`imagenet`),
    `stage1_block1`, ...; `head`. Dropout, of either kind, sits before the last convolution of each
    block; the paper has none. `model.stochastic_depth` is the probability to skip the last block in
    training, falling linearly to zero before the first (Huang et al. 2016); the outputs of kept
    blocks are divided by their probability, so that nothing changes at test time. With `model.scan`
    the blocks of a stage after its first are a loop of the program, unless features are captured.
    """

    blocks: tuple[int, ...]
    bottleneck: bool = False
    residual: bool = True
    imagenet: bool = False

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, n]."""
        make = self.ingredients
        base = 64 if self.imagenet else 16
        if self.imagenet:
            pool, padding = make.pool("pool1", STEM_POOL), ((3, 3), (3, 3))
            stem = ConvBlock(make, make.width(base), 7, 2, padding, pool=pool, name="conv1")
            x = forward.endpoint("pool1", forward(stem, x))
        else:
            x = forward(ConvBlock(make, make.width(base), name="conv1"), x)
        depth, total = make.config.stochastic_depth or 0.0, sum(self.blocks)
        survival = 1 - depth * np.arange(1, total + 1, dtype=np.float32) / total
        scanned = make.config.scan and not forward.captures
        options = {"train": forward.train, "keep_prob": forward.keep_prob}
        new_block = functools.partial(
            Block,
            make,
            bottleneck=self.bottleneck,
            residual=self.residual,
            pooled=not self.imagenet,
        )
        stages = np.split(survival, np.cumsum(self.blocks)[:-1])
        for stage, shares in enumerate(stages, start=1):
            features = make.width(base * 2 ** (stage - 1))
            names = [f"stage{stage}_block{index}" for index in range(1, len(shares) + 1)]
            unrolled = names[:1] if scanned else names
            for name, share in zip(unrolled, shares, strict=False):
                block = new_block(features, stage > 1 and name == names[0], name=name)
                x = rematerialized(block, x, survival=float(share), **options)
                x = forward.endpoint(name, x)
            if len(unrolled) < len(names):
                block, remat = new_block(features, False, parent=None), make.config.remat
                x = scan_blocks(self, block, names[1:], x, shares[1:], remat=remat, **options)
                x = forward.map(x)
        return x


def resnet(
    ingredients: Ingredients,
    image_shape: tuple[int, int, int],
    *,
    depth: int,
    residual: bool = True,
) -> ResNet:
    """A network for small images, of `depth` = 6n + 2 weighted layers.

    Raises UserError for images that are too small to be pooled twice.
    """
    name = f"{'resnet' if residual else 'plain'}{depth}"
    one_pixel_works = ingredients.config.pooling in ("none", "strided")
    require_size(name, image_shape, 1 if one_pixel_works else 4)
    return ResNet(ingredients, ((depth - 2) // 6,) * 3, residual=residual)


def imagenet_resnet(
    ingredients: Ingredients,
    image_shape: tuple[int, int, int],
    *,
    depth: int,
    residual: bool = True,
) -> ResNet:
    """A network for images of about 224 pixels, of a depth in `IMAGENET`. Any size works."""
    blocks, bottleneck = IMAGENET[depth]
    return ResNet(ingredients, blocks, bottleneck, residual, imagenet=True)
