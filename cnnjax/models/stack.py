"""A plain stack of convolutions of any depth, to vary one thing at a time."""

from collections.abc import Mapping

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.models.size import require_size
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.ingredients import Ingredients

WIDTHS = (16, 32, 64)
KERNELS: Mapping[str, tuple[int | tuple[int, int], ...]] = {
    "3x3": (3,),
    "5x5": (5,),
    "two_3x3": (3, 3),
    "1x3_3x1": ((1, 3), (3, 1)),
    "two_1x3_3x1": ((1, 3), (3, 1)) * 2,
}
"""The kernels of the convolutions that make up one layer. `5x5`, `two_3x3` and `two_1x3_3x1` have
the same receptive field with 25, 18 and 12 weights (Szegedy et al. 2016, section 3)."""


class Stack(Backbone):
    """`model.depth` weighted layers: all but the last are convolutions in three stages of 16, 32
    and 64 channels, of equal length or the earlier ones one layer longer; the configured pooling
    between stages, the mean over the maps, a dense layer. No shortcuts, no hidden layers.

    Made for studies of depth (after the plain networks of He et al. 2015, "Delving Deep into
    Rectifiers", section 4.1) and of the form of a layer (`model.kernel`, a key of `KERNELS`).
    Dropout follows each stage. Layers and endpoints: `conv1`, `conv2`, ... (`conv1_1`, `conv1_2`,
    ... where a layer is made up of several), `pool1`, `pool2`; `mean`; `head`.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, n]."""
        make = self.ingredients
        kernels = KERNELS[make.config.kernel or "3x3"]
        layers, number = (make.config.depth or 2) - 1, 0
        for stage, width in enumerate(WIDTHS, start=1):
            for _ in range(layers // 3 + (stage <= layers % 3)):
                number += 1
                for part, kernel in enumerate(kernels, start=1):
                    name = f"conv{number}_{part}" if len(kernels) > 1 else f"conv{number}"
                    block = ConvBlock(make, make.width(width), kernel, name=name)
                    x = forward(block, x)
            x = forward.dropout(make.dropout(f"dropout{stage}"), x)
            if stage < len(WIDTHS):
                x = forward.pool(f"pool{stage}", make.pool(f"pool{stage}"), x)
        return x

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, n] -> [B, n]."""
        return forward.endpoint("mean", x.mean((1, 2)))


def stack(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> Stack:
    """The stack. Raises UserError for images below 4x4 (with pooling)."""
    require_size("stack", image_shape, 4 if ingredients.pools else 1)
    return Stack(ingredients)
