"""Inception v3, and a small network of the same blocks for small images."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import ForwardPass
from cnnjax.models.branches import (
    BranchedBackbone,
    Branches,
    Form,
    Kernel,
    Mixed,
    average_3x3,
    downsample,
    has_auxiliary_heads,
    max_pool,
)
from cnnjax.models.size import require_size, require_windows
from cnnjax.nn.blocks import ConvBlock, rematerialized
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window

POOL = Window(3, 2)
WINDOWS = (Window(3, 2), Window(3, 1), POOL, Window(3, 1), POOL, POOL, POOL)


def figure5(conv: Branches, x: Array, pool_features: int) -> Sequence[Array]:
    """Szegedy et al. 2016, figure 5, the 5x5 convolution beside two of 3x3: 224 + pool_features
    channels."""
    return (
        conv(x, "branch1", (64, 1)),
        conv(x, "branch2", (48, 1), (64, 5)),
        conv(x, "branch3", (64, 1), (96, 3), (96, 3)),
        conv(average_3x3(conv.make, x), "branch4", (pool_features, 1)),
    )


def reduction1(conv: Branches, x: Array) -> Sequence[Array]:
    """The grid reduction of figure 10, strided convolutions beside pooling: 480 + C channels."""
    return (
        conv(x, "branch1", (384, 3, 2)),
        conv(x, "branch2", (64, 1), (96, 3), (96, 3, 2)),
        downsample(conv.make, x, POOL),
    )


def figure6(conv: Branches, x: Array, n: int) -> Sequence[Array]:
    """Figure 6, n x n as 1 x n and n x 1, with n = 7: 768 channels."""
    row, column = (1, 7), (7, 1)
    return (
        conv(x, "branch1", (192, 1)),
        conv(x, "branch2", (n, 1), (n, row), (192, column)),
        conv(x, "branch3", (n, 1), (n, column), (n, row), (n, column), (192, row)),
        conv(average_3x3(conv.make, x), "branch4", (192, 1)),
    )


def reduction2(conv: Branches, x: Array) -> Sequence[Array]:
    """The second grid reduction: 512 + C channels."""
    return (
        conv(x, "branch1", (192, 1), (320, 3, 2)),
        conv(x, "branch2", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
        downsample(conv.make, x, POOL),
    )


def figure7(conv: Branches, x: Array) -> Sequence[Array]:
    """Figure 7, 3x3 as 1x3 beside 3x1: 2048 channels."""
    second = conv(x, "branch2", (384, 1))
    third = conv(x, "branch3", (448, 1), (384, 3))
    return (
        conv(x, "branch1", (320, 1)),
        conv(second, "branch2a", (384, (1, 3))),
        conv(second, "branch2b", (384, (3, 1))),
        conv(third, "branch3a", (384, (1, 3))),
        conv(third, "branch3b", (384, (3, 1))),
        conv(average_3x3(conv.make, x), "branch4", (192, 1)),
    )


class InceptionV3(BranchedBackbone):
    """Szegedy et al. 2016, "Rethinking the Inception Architecture", as torchvision has it: on
    299x299x3 images with 1000 classes 27,161,264 parameters, 23,834,568 without the auxiliary head.

    Layers and endpoints: `conv1`, `conv2`, `conv3`, `pool1`, `conv4`, `conv5`, `pool2`, `mixed1`
    (figure 5) ... `mixed11`; `auxiliary` after `mixed8`, in training only; `head`. The pooling
    level replaces the poolings that halve the maps, not the averages in the blocks. Dropout, of
    either kind, comes before the head.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, n]."""
        make = self.ingredients

        def conv(
            index: int, features: int, kernel: int, stride: int = 1, pad: int = 0, **fields: Any
        ) -> Array:
            width, padding, name = make.width(features), ((pad, pad), (pad, pad)), f"conv{index}"
            return forward(ConvBlock(make, width, kernel, stride, padding, name=name, **fields), x)

        x = conv(1, 32, 3, 2)
        x = conv(2, 32, 3)
        x = forward.endpoint("pool1", conv(3, 64, 3, pad=1, pool=make.pool("pool1", POOL)))
        x = conv(4, 80, 1)
        x = forward.endpoint("pool2", conv(5, 192, 3, pool=make.pool("pool2", POOL)))
        blocks: list[tuple[Form, tuple[int, ...]]] = [
            *((figure5, (width,)) for width in (32, 64, 64)),
            (reduction1, ()),
            *((figure6, (width,)) for width in (128, 160, 160, 192)),
            (reduction2, ()),
            (figure7, ()),
            (figure7, ()),
        ]
        for index, (form, widths) in enumerate(blocks, start=1):
            name = f"mixed{index}"
            block = Mixed(make, form, widths, name=name)
            x = forward.endpoint(name, rematerialized(block, x, train=forward.train))
            if name == "mixed8" and has_auxiliary_heads(self, forward):
                forward.auxiliary["auxiliary"] = self._auxiliary(x, forward.train)
        return x

    def _auxiliary(self, x: Array, train: bool) -> Array:
        """The features of the auxiliary head, from the 17x17 maps."""
        make = self.ingredients
        x = nn.avg_pool(x, (5, 5), (3, 3)) if min(x.shape[1:3]) >= 5 else x
        x = ConvBlock(make, make.width(128), 1, name="auxiliary_conv1")(x, train=train)
        padding = ((0, 0), (0, 0)) if min(x.shape[1:3]) >= 5 else ((2, 2), (2, 2))
        block = ConvBlock(make, make.width(768), 5, padding=padding, name="auxiliary_conv2")
        return block(x, train=train).mean(axis=(1, 2))


def small(conv: Branches, x: Array, n: int) -> Sequence[Array]:
    """The block of four branches, in the form `model.inception_block`: 4 n channels, or 3 n + C.

    `naive`: 1x1, 3x3, 5x5 and max pooling side by side (Szegedy et al. 2015, figure 2a), whose
    last branch has the channels of the input. `reduced`: 1x1 convolutions reduce the channels
    before the larger kernels and after the pooling (figure 2b). `factorized_5x5`: also the 5x5 as
    two 3x3. `asymmetric`: also each 3x3 as 1x3 and 3x1.
    """
    form, half, pooled = conv.make.config.inception_block, max(1, n // 2), max_pool(conv.make, x)
    if form == "naive":
        return (
            conv(x, "branch1", (n, 1)),
            conv(x, "branch2", (n, 3)),
            conv(x, "branch3", (n, 5)),
            pooled,
        )
    row, column = (1, 3), (3, 1)
    larger: dict[str, tuple[tuple[int, Kernel], ...]] = {
        "reduced": ((n, 5),),
        "factorized_5x5": ((n, 3), (n, 3)),
        "asymmetric": ((n, row), (n, column), (n, row), (n, column)),
    }
    middle: tuple[tuple[int, Kernel], ...] = (
        ((n, row), (n, column)) if form == "asymmetric" else ((n, 3),)
    )
    return (
        conv(x, "branch1", (n, 1)),
        conv(x, "branch2", (half, 1), *middle),
        conv(x, "branch3", (half, 1), *larger[str(form)]),
        conv(pooled, "branch4", (n, 1)),
    )


class InceptionSmall(BranchedBackbone):
    """A 3x3 convolution of 32 channels and three stages of two blocks (16, 32 and 64 channels a
    branch) with pooling between them, for images of about 32x32. Layers and endpoints: `conv1`,
    `mixed1_1`, `mixed1_2`, `pool1`, ..., `mixed3_2`; `head`. Dropout, of either kind, comes before
    the head."""

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, n]."""
        make = self.ingredients
        x = forward(ConvBlock(make, make.width(32), name="conv1"), x)
        for stage, features in enumerate((16, 32, 64), start=1):
            if stage > 1:
                name = f"pool{stage - 1}"
                x = forward.pool(name, make.pool(name), x)
            for index in (1, 2):
                name = f"mixed{stage}_{index}"
                block = Mixed(make, small, (make.width(features),), name=name)
                x = forward.endpoint(name, rematerialized(block, x, train=forward.train))
        return x


def inception_v3(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> InceptionV3:
    """Inception v3. Raises UserError for images that are too small for its windows."""
    layers = (0, 1, 2, 3, 4, 5, 6) if ingredients.pools else (0, 1, 3, 5, 6)
    require_windows("inception_v3", image_shape, [WINDOWS[i] for i in layers])
    return InceptionV3(ingredients)


def inception_small(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> InceptionSmall:
    """The small network. Raises UserError for images below 4x4 (with pooling)."""
    require_size("inception_small", image_shape, 4 if ingredients.pools else 1)
    return InceptionSmall(ingredients)
