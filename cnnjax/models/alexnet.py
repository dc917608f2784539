"""AlexNet, on one tower and as published on two."""

import flax.linen as nn
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.models.size import require_windows
from cnnjax.nn.blocks import ConvBlock, DenseBlock
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.normalization import local_response
from cnnjax.nn.pooling import Window

POOL = Window(3, 2)
WINDOWS = {  # {grouped: the windows that make images smaller}
    False: (Window(11, 4, 2), POOL, POOL, POOL),
    True: (Window(11, 4), POOL, POOL, POOL),
}


class AlexNet(Backbone):
    """Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks";
    one tower: Krizhevsky 2014, "One weird trick", as torchvision has it: 61,100,840 parameters on
    224x224x3 images with 1000 classes.

    `grouped`: the two towers of 2012 as convolutions in two groups (conv2, conv4, conv5), with
    local response normalisation after conv1 and conv2: 60,965,224 parameters on 227x227x3.
    Endpoints: `conv1`, `pool1`, `conv2`, `pool2`, `conv3`, `conv4`, `conv5`, `pool5`, `fc1`, `fc2`;
    layers as well, and `head`. Dropout: `plain` before `fc1` and `fc2`, `spatial` after each
    pooling.

    Deviation: the maps are flattened whatever their size; torchvision first averages them to 6x6,
    their size for images of 224 pixels.
    """

    grouped: bool

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, 256]."""
        make = self.ingredients
        groups = 2 if self.grouped else 1
        published = (96, 256, 384, 384, 256) if self.grouped else (64, 192, 384, 256, 256)
        widths = [make.width(features, groups) for features in published]

        def conv(
            index: int, features: int, kernel: int, pad: int, strides: int = 1, groups: int = 1
        ) -> Array:
            name, padding = f"conv{index}", ((pad, pad), (pad, pad))
            pool = make.pool(f"pool{index}", POOL) if index in (1, 2, 5) else None
            normalized = self.grouped and index in (1, 2)
            block = ConvBlock(
                make,
                features,
                kernel,
                strides,
                padding,
                groups,
                pool=None if normalized else pool,
                name=name,
            )
            y = forward(block, x)
            if pool is None:
                return y
            if normalized:
                y = forward.pool(f"pool{index}", pool, local_response(y))
            else:
                y = forward.endpoint(f"pool{index}", y)
            return forward.dropout(make.dropout(f"pool{index}_dropout", only="spatial"), y)

        x = conv(1, widths[0], 11, 0 if self.grouped else 2, strides=4)
        x = conv(2, widths[1], 5, 2, groups=groups)
        x = conv(3, widths[2], 3, 1)
        x = conv(4, widths[3], 3, 1, groups=groups)
        return conv(5, widths[4], 3, 1, groups=groups)

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, 256] -> [B, units]."""
        make = self.ingredients
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(make.config.hidden or (), start=1):
            x = forward.dropout(make.dropout(f"fc{index}_dropout", only="plain"), x)
            x = forward(DenseBlock(make, make.width(units), name=f"fc{index}"), x)
        return x


def alexnet(
    ingredients: Ingredients, image_shape: tuple[int, int, int], *, grouped: bool = False
) -> AlexNet:
    """AlexNet. Raises UserError for images that are too small for its windows."""
    name = "alexnet_grouped" if grouped else "alexnet"
    require_windows(
        name, image_shape, WINDOWS[grouped] if ingredients.pools else WINDOWS[grouped][:1]
    )
    return AlexNet(ingredients, grouped)
