"""GoogLeNet, the first Inception network."""

from collections.abc import Sequence

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import ForwardPass
from cnnjax.models.branches import (
    BranchedBackbone,
    Branches,
    Mixed,
    adaptive_average,
    has_auxiliary_heads,
    max_pool,
)
from cnnjax.models.size import require_windows
from cnnjax.nn.blocks import ConvBlock, DenseBlock, rematerialized
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window

POOL, LAST = Window(3, 2, 0, ceil=True), Window(2, 2, 0, ceil=True)
STEM = Window(7, 2, 3)
AUXILIARY = {"mixed4a": "auxiliary1", "mixed4d": "auxiliary2"}
BLOCKS = (  # 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after pooling
    (("mixed3a", 64, 96, 128, 16, 32, 32), ("mixed3b", 128, 128, 192, 32, 96, 64)),
    (
        ("mixed4a", 192, 96, 208, 16, 48, 64),
        ("mixed4b", 160, 112, 224, 24, 64, 64),
        ("mixed4c", 128, 128, 256, 24, 64, 64),
        ("mixed4d", 112, 144, 288, 32, 64, 64),
        ("mixed4e", 256, 160, 320, 32, 128, 128),
    ),
    (("mixed5a", 256, 160, 320, 32, 128, 128), ("mixed5b", 384, 192, 384, 48, 128, 128)),
)


def block(conv: Branches, x: Array, *widths: int) -> Sequence[Array]:
    """Szegedy et al. 2015, figure 2b, with a 3x3 convolution instead of the 5x5 one."""
    width1, reduce3, width3, reduce5, width5, width_pool = widths
    return (
        conv(x, "branch1", (width1, 1)),
        conv(x, "branch2", (reduce3, 1), (width3, 3)),
        conv(x, "branch3", (reduce5, 1), (width5, 3)),
        conv(max_pool(conv.make, x), "branch4", (width_pool, 1)),
    )


class GoogLeNet(BranchedBackbone):
    """Szegedy et al. 2015, "Going Deeper with Convolutions", as torchvision has it: 13,004,888
    parameters with both auxiliary heads, for images of 224 pixels.

    Layers and endpoints: `conv1`, `pool1`, `conv2`, `conv3`, `pool2`, `mixed3a`, `mixed3b`,
    `pool3`, `mixed4a` ... `mixed4e`, `pool4`, `mixed5a`, `mixed5b`; in training `auxiliary1` after
    `mixed4a` and `auxiliary2` after `mixed4d`; `head`. The pooling level replaces the poolings
    that halve the maps, not those within the blocks. Dropout, of either kind, comes before the
    head; that of the auxiliary heads (70 % of the units in the paper) is `model.dropout` as well.

    Deviations from the paper, as in torchvision: batch norm, and 3x3 instead of 5x5.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, 1024]."""
        make = self.ingredients
        pool, padding = make.pool("pool1", POOL), ((3, 3), (3, 3))
        x = forward(ConvBlock(make, make.width(64), 7, 2, padding, pool=pool, name="conv1"), x)
        x = forward(ConvBlock(make, make.width(64), 1, name="conv2"), forward.endpoint("pool1", x))
        pool = make.pool("pool2", POOL)
        x = forward.endpoint(
            "pool2", forward(ConvBlock(make, make.width(192), 3, pool=pool, name="conv3"), x)
        )
        for stage, blocks in enumerate(BLOCKS, start=3):
            for name, *widths in blocks:
                mixed = Mixed(make, block, tuple(widths), name=name)
                x = forward.endpoint(name, rematerialized(mixed, x, train=forward.train))
                if name in AUXILIARY and has_auxiliary_heads(self, forward):
                    self._auxiliary(AUXILIARY[name], x, forward)
            if stage < 5:
                name = f"pool{stage}"
                x = forward.pool(name, make.pool(name, POOL if stage == 3 else LAST), x)
        return x

    def _auxiliary(self, name: str, x: Array, forward: ForwardPass) -> None:
        make, train = self.ingredients, forward.train
        conv = ConvBlock(make, make.width(128), 1, name=f"{name}_conv")
        x = conv(adaptive_average(x, 4), train=train).reshape(x.shape[0], -1)
        dense = DenseBlock(make, make.width(1024), normalize=False, name=f"{name}_fc")
        x = dense(x, train=train)
        forward.auxiliary[name] = forward.dropout(make.dropout(f"{name}_dropout"), x)


def googlenet(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> GoogLeNet:
    """GoogLeNet. Raises UserError for images that are too small for its windows."""
    windows = (STEM, POOL, POOL, POOL, LAST) if ingredients.pools else (STEM,)
    require_windows("googlenet", image_shape, windows)
    return GoogLeNet(ingredients)
