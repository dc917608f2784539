"""GoogLeNet, the first Inception network."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array

from cnnjax.models.branches import (
    Branches,
    adaptive_average,
    auxiliary,
    concatenate,
    largest,
)
from cnnjax.models.size import require_places
from cnnjax.models.taps import Taps
from cnnjax.nn.blocks import ConvBlock, DenseBlock, rematerialized
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window

Head = Callable[[Array, bool], Array]

POOL, LAST = Window(3, 2, 0, ceil=True), Window(2, 2, 0, ceil=True)
STEM = Window(7, 2, 3)
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


class Block(nn.Module):
    """Szegedy et al. 2015, figure 2b, with a 3x3 convolution in the place of the 5x5 one."""

    ingredients: Ingredients
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """x: [B, H, W, C] -> [B, H, W, features of all branches]."""
        one, before3, three, before5, five, pooled = self.widths
        conv = Branches(self.ingredients, train)
        return concatenate(
            conv(x, "branch1", (one, 1)),
            conv(x, "branch2", (before3, 1), (three, 3)),
            conv(x, "branch3", (before5, 1), (five, 3)),
            conv(largest(self.ingredients, x), "branch4", (pooled, 1)),
        )


class GoogLeNet(nn.Module):
    """Szegedy et al. 2015, "Going Deeper with Convolutions", as torchvision has it: 13,004,888
    parameters with both auxiliary heads, for images of 224 pixels.

    Layers and endpoints: `conv1`, `pool1`, `conv2`, `conv3`, `pool2`, `mixed3a`, `mixed3b`,
    `pool3`, `mixed4a` ... `mixed4e`, `pool4`, `mixed5a`, `mixed5b`; in training `auxiliary1` after
    `mixed4a` and `auxiliary2` after `mixed4d`; `head`. The pooling level replaces the poolings
    that halve the maps, not those within the blocks. Dropout, of either kind, comes before the
    head; that of the auxiliary heads (70 % of the units in the paper) is `model.dropout` as well.

    Deviations from the paper, as torchvision: batch norm, and 3x3 where it has 5x5.
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
        stem = ConvBlock(make, make.width(64), 7, 2, padding=((3, 3), (3, 3)), name="conv1")
        pool = make.pool("pool1", POOL)
        x = tap("pool1", tap.block_and_pool(stem, pool, x.astype(make.dtype), train))
        x = tap("conv2", ConvBlock(make, make.width(64), 1, name="conv2")(x, train=train))
        third = ConvBlock(make, make.width(192), 3, name="conv3")
        x = tap("pool2", tap.block_and_pool(third, make.pool("pool2", POOL), x, train))
        for stage, blocks in enumerate(BLOCKS, start=3):
            for name, *widths in blocks:
                block = Block(make, tuple(widths), name=name)
                x = tap(name, rematerialized(block, x, train=train))
                if name in ("mixed4a", "mixed4d"):
                    which = "auxiliary1" if name == "mixed4a" else "auxiliary2"
                    auxiliary(self, x, self._auxiliary(which, keep_prob), train)
            if stage < 5:
                name = f"pool{stage}"
                x = tap(name, make.pool(name, POOL if stage == 3 else LAST)(x))
        x = x.mean(axis=(1, 2))
        x = make.dropout("dropout")(x, train=train, keep_prob=keep_prob)
        return tap.result(make.dense(self.classes, name="head")(x).astype(make.param_dtype))

    def _auxiliary(self, name: str, keep_prob: Array | float | None) -> Head:
        make = self.ingredients

        def head(x: Array, train: bool) -> Array:
            block = ConvBlock(make, make.width(128), 1, name=f"{name}_conv")
            x = block(adaptive_average(x, 4), train=train)
            x = x.reshape(x.shape[0], -1)
            units = make.width(1024)
            x = DenseBlock(make, units, normalize=False, name=f"{name}_fc")(x, train=train)
            x = make.dropout(f"{name}_dropout")(x, train=train, keep_prob=keep_prob)
            return make.dense(self.classes, name=f"{name}_head")(x)

        return head


def googlenet(
    ingredients: Ingredients, classes: int, image_shape: tuple[int, int, int]
) -> GoogLeNet:
    """GoogLeNet. Raises UserError for images that are too small for its windows."""
    kept = (STEM, POOL, POOL, POOL, LAST) if ingredients.pools else (STEM,)
    require_places("googlenet", image_shape, kept)
    return GoogLeNet(ingredients, classes)
