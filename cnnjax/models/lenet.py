"""LeNet-5, as published and as it is usually built today.

Both pad images smaller than 32x32 with zeros on all sides, as LeCun did with the 28x28 digits.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.errors import UserError
from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.nn.blocks import ConvBlock, DenseBlock
from cnnjax.nn.convolution import Connections
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.upsampling import fit

SIZE = 32

C3_CONNECTIONS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""Which of the six S2 maps each of the sixteen C3 maps sees (LeCun et al. 1998, table I)."""

_DIGITS = """
..###.. ...#... ..###.. #######  ....##. ####### ..###.. ####### ..###.. ..###..
.##.##. ..##... .##.##. .....##  ...###. ##..... .##.... .....## .##.##. .##.##.
##...## .###... ##...## ....##.  ...###. ##..... ##..... .....## ##...## ##...##
##...## ...#... .....## ...##..  ..####. ##..... ##..... ....##. ##...## ##...##
##...## ...#... .....## ..####.  ..#.##. #####.. ##.##.. ....##. .##.##. ##...##
##...## ...#... ....##. ....##.  .##.##. ....##. ###.##. ...##.. ..###.. .##.###
##...## ...#... ...##.. .....##  .#..##. .....## ##...## ...##.. .##.##. ..##.##
##...## ...#... ..##... .....##  ##..##. .....## ##...## ..##... ##...## .....##
##...## ...#... .##.... .....##  ####### .....## ##...## ..##... ##...## .....##
##...## ...#... ##..... ##...##  ....##. ##...## ##...## .##.... ##...## .....##
.##.##. ...#... ##..... .##.##.  ....##. .##.##. .##.##. .##.... .##.##. ....##.
..###.. .#####. ####### ..###..  ....##. ..###.. ..###.. ##..... ..###.. ..###..
"""


def pad_to(x: Array, size: int) -> Array:
    """Pads [B, H, W, C] with zeros to at least `size` pixels a side, the image in the centre."""
    height, width = (max(size, length) for length in x.shape[1:3])
    return fit(x, (height, width))


def convolutions(
    make: Ingredients, x: Array, forward: ForwardPass, connections: Connections | None = None
) -> Array:
    """C1 to S4: [B, H, W, C] -> [B, h, w, 16]; `connections` is the table of C3."""
    x = pad_to(x, SIZE)
    for index, (features, table) in enumerate(((6, None), (16, connections)), start=1):
        name, width = f"pool{index}", make.width(features)
        pool = make.pool(name)
        block = ConvBlock(
            make, width, 5, padding="VALID", connections=table, pool=pool, name=f"conv{index}"
        )
        x = forward.endpoint(name, forward(block, x))
        x = forward.dropout(make.dropout(f"{name}_dropout", only="spatial"), x)
    return x


def rbf_codes(num_classes: int) -> np.ndarray:
    """The centres of the output units: [num_classes, 84], each value +1 (ink) or -1.

    For ten classes, pictures of the digits, 7 wide and 12 high, flattened row by row: drawn in the
    manner of LeCun et al. 1998, fig. 3. For any other number of classes,
    fixed random signs of equal probability, which the paper names as a possible choice (sec. II-B).
    """
    if num_classes == 10:
        rows = [line.split() for line in _DIGITS.split("\n") if line]
        pictures = ["".join(row[digit] for row in rows) for digit in range(10)]
        return np.array([[1.0 if dot == "#" else -1.0 for dot in dots] for dots in pictures])
    return np.random.default_rng(1998).choice([-1.0, 1.0], size=(num_classes, 84))


class LeNet5(Backbone):
    """LeNet-5 of LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition",
    sec. II-B: 60,000 parameters on 32x32x1 images.

    C1 is `conv1`, S2 `pool1`, C3 `conv2` (connected by table I), S4 `pool2`, C5 `conv3`, F6 `fc1`.
    The output units are distances to fixed codes, and the logits their negatives.

    Deviations: trained with the softmax cross-entropy of the logits, which is the paper's
    criterion (eq. 9) without its constant for rubbish classes; plain gradients instead of the
    stochastic diagonal Levenberg-Marquardt method; biases start at zero; the codes are drawn anew;
    of images larger than 32x32 F6 sees all positions of C5. Dropout, which the paper
    does not have: `plain` after C5 and F6, `spatial` after S2 and S4.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, 16], of S4."""
        return convolutions(self.ingredients, x, forward, C3_CONNECTIONS)

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, 16] -> [B, 84]."""
        make = self.ingredients
        x = forward(ConvBlock(make, 120, kernel=5, padding="VALID", name="conv3"), x)
        x = x.reshape(x.shape[0], -1)
        x = forward.dropout(make.dropout("conv3_dropout", only="plain"), x)
        x = forward(DenseBlock(make, 84, name="fc1"), x)
        return forward.dropout(make.dropout("fc1_dropout", only="plain"), x)

    @nn.nowrap
    def output_layer(self, num_outputs: int) -> "Codes":
        """Distances to fixed codes, without parameters."""
        return Codes(num_outputs, self.ingredients.param_dtype, name="head")


class Codes(nn.Module):
    """The output units of LeNet-5: minus the squared distances to the centres `rbf_codes`."""

    num_outputs: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, 84] -> logits [B, num_outputs], all at most 0."""
        return negative_distances(x.astype(self.dtype), rbf_codes(self.num_outputs))


def negative_distances(x: Array, codes: np.ndarray) -> Array:
    """[B, n] and [num_classes, n] -> minus the squared Euclidean distances, [B, num_classes]."""
    centres = jnp.asarray(codes, x.dtype)
    squares = (x * x).sum(-1, keepdims=True) + (centres * centres).sum(-1)
    return 2 * x @ centres.T - squares


class LeNet5Modern(Backbone):
    """LeNet-5 with ReLU, max pooling, all C3 connections and a softmax output: 61,706 parameters
    on 32x32x1 images. Layers and endpoints: `conv1`, `pool1`, `conv2`, `pool2`, `fc1`, `fc2`;
    `head`.

    Dropout: `plain` after `fc1` and `fc2`, `spatial` after each pooling.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, h, w, 16]."""
        return convolutions(self.ingredients, x, forward)

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, 16] -> [B, units]."""
        make = self.ingredients
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate((120, 84), start=1):
            x = forward(DenseBlock(make, make.width(units), name=f"fc{index}"), x)
            x = forward.dropout(make.dropout(f"fc{index}_dropout", only="plain"), x)
        return x


def lenet5(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> LeNet5:
    """LeNet-5 as published. Takes images of any size. Raises UserError for a `model.width` other
    than 1, which its table of connections does not allow."""
    if ingredients.config.width != 1:
        raise UserError(
            f"model.width: {ingredients.config.width:g} is not possible for lenet5, whose table of "
            "connections is fixed; allowed: 1, or model.name=lenet5_modern"
        )
    return LeNet5(ingredients)


def lenet5_modern(ingredients: Ingredients, image_shape: tuple[int, int, int]) -> LeNet5Modern:
    """LeNet-5 as it is built today. Takes images of any size."""
    return LeNet5Modern(ingredients)
