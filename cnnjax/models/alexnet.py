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
        make, groups = self.ingredients, 2 if self.grouped else 1
        widths = (96, 256, 384, 384, 256) if self.grouped else (64, 192, 384, 256, 256)
        kernels, pads = (11, 5, 3, 3, 3), (0 if self.grouped else 2, 2, 1, 1, 1)
        layers = zip(widths, kernels, pads, strict=True)
        for index, (features, kernel, pad) in enumerate(layers, start=1):
            name = f"pool{index}"
            pool = make.pool(name, POOL) if index in (1, 2, 5) else None
            normalized = self.grouped and index in (1, 2)
            block = ConvBlock(
                make,
                make.width(features, groups),
                kernel,
                strides=4 if index == 1 else 1,
                padding=((pad, pad), (pad, pad)),
                groups=groups if index in (2, 4, 5) else 1,
                pool=None if normalized else pool,
                name=f"conv{index}",
            )
            x = forward(block, x)
            if pool is None:
                continue
            if normalized:
                x = forward.pool(name, pool, local_response(x))
            else:
                x = forward.endpoint(name, x)
            x = forward.dropout(make.dropout(f"{name}_dropout", only="spatial"), x)
        return x

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
    name, first = "alexnet_grouped" if grouped else "alexnet", Window(11, 4, 0 if grouped else 2)
    windows = (first, POOL, POOL, POOL) if ingredients.pools else (first,)
    require_windows(name, image_shape, windows)
    return AlexNet(ingredients, grouped)
