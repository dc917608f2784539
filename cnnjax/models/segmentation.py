"""Networks that classify every pixel: an encoder, a decoder, and a head."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cnnjax import catalog
from cnnjax.errors import UserError
from cnnjax.models import vgg
from cnnjax.models.backbone import Backbone, ForwardPass, Pooled, train_argument
from cnnjax.models.size import require_size
from cnnjax.nn import upsampling
from cnnjax.nn.blocks import ConvBlock, rematerialized
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.upsampling import Size


class Scale(NamedTuple):
    """Maps of an encoder between two downsamplings. Convolutions without padding may have made them
    a little smaller than `size`, that of the first; `last` are the last maps, or None where the
    image itself is made smaller at once."""

    size: Size
    last: Array | None

    @property
    def last_size(self) -> Size:
        """(height, width) of the last maps."""
        return self.size if self.last is None else _size(self.last)


def pyramid(image_size: Size, maps: Sequence[Array]) -> list[Scale]:
    """The scales of an encoder, from that of the image to the coarsest.

    A scale ends where maps [B, h, w, C] follow one another whose sides are at most two thirds.
    """
    scales, size = [Scale(image_size, None)], image_size
    for current in maps:
        previous, size = size, _size(current)
        if any(3 * new <= 2 * old for old, new in zip(previous, size, strict=True)):
            scales.append(Scale(size, current))
        else:
            scales[-1] = scales[-1]._replace(last=current)
    return scales


def _size(x: Array) -> Size:
    return x.shape[1], x.shape[2]


class Stage(nn.Module):
    """Makes maps larger, joins those of the encoder, and convolves.

    Layer `upsample` is by `model.decoder`: `transposed` gives `features` channels, and before
    unpooling the channels become those that were pooled, by a 1x1 convolution `project` where they
    differ.
    Skips: `add` adds the encoder's maps, after a 1x1 convolution `skip` where the channels differ;
    `concatenate` puts them after the others. Then `model.decoder_convolutions` blocks `conv1`, ...
    of `features` channels, each of convolution, norm and activation; and dropout, of either kind.
    """

    ingredients: Ingredients
    size: Size
    features: int
    kernel: int = 3
    activate: bool = True
    dropout: bool = True

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        skip: Array | None,
        pooled: Pooled | None,
        train: bool,
        keep_prob: Array | float | None,
    ) -> Array:
        """x: [B, h, w, C] -> [B, *size, features], or other channels without convolutions. `skip`:
        [B, *size, n]; `pooled`: the pooling to undo."""
        make = self.ingredients
        x = self._upsampled(x, pooled)
        if skip is not None and make.config.skips == "add":
            if skip.shape[-1] != x.shape[-1]:
                skip = make.conv(x.shape[-1], 1, name="skip")(skip)
            x = x + skip
        elif skip is not None and make.config.skips == "concatenate":
            x = jnp.concatenate([x, skip], axis=-1)
        for index in range(1, (make.config.decoder_convolutions or 0) + 1):
            block = ConvBlock(
                make, self.features, self.kernel, activate=self.activate, name=f"conv{index}"
            )
            x = block(x, train=train)
        if not self.dropout:
            return x
        return make.dropout("dropout")(x, train=train, keep_prob=keep_prob)

    def _upsampled(self, x: Array, pooled: Pooled | None) -> Array:
        make = self.ingredients
        if pooled is not None:
            channels = pooled.before.shape[-1]
            if channels != x.shape[-1]:
                x = make.conv(channels, 1, name="project")(x)
            before = pooled.before.astype(x.dtype)
            with jax.named_scope("upsample"):
                return make.operations.max_unpool(x, before, pooled.window)
        return upsampled(make, x, self.size, self.features, name="upsample")


def upsampled(
    make: Ingredients, x: Array, size: Size, features: int, *, name: str, **fields: Any
) -> Array:
    """x, [B, h, w, C], made larger as `model.decoder` says, in a layer called `name`:
    [B, *size, C], or by a transposed convolution [B, *size, features]."""
    if make.config.decoder == "transposed":
        return make.transposed_conv(features, size, name=name, **fields)(x)
    resize = upsampling.nearest if make.config.decoder == "nearest" else upsampling.bilinear
    with jax.named_scope(name):
        return resize(x, size)


class PixelNetwork(nn.Module):
    """A network for every pixel on the maps of a backbone. The variables of the backbone have the
    paths that they have in classification; `outputs` adds the rest."""

    backbone: Backbone
    num_outputs: int

    def setup(self) -> None:
        """Gives the backbone's variables the paths that they have without this module."""
        nn.share_scope(self, self.backbone)

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        keep_prob: Array | float | None = None,
        capture: str | Sequence[str] = (),
    ) -> Array | tuple[Array, dict[str, Array]]:
        """x: [B, H, W, C] -> outputs [B, H, W, num_outputs]; with `capture`, (outputs, {name:
        features}).

        Raises UserError for a name in `capture` that the network does not have, and what `outputs`
        raises.
        """
        make = self.backbone.ingredients
        forward = ForwardPass(train, keep_prob, capture, spatial=True)
        x = x.astype(make.dtype)
        outputs = self.outputs(self.backbone.features(x, forward), _size(x), forward)
        return forward.result(outputs.astype(make.param_dtype))

    @nn.nowrap
    def outputs(self, x: Array, size: Size, forward: ForwardPass) -> Array:
        """The outputs, from the backbone's last maps: [B, h, w, n] -> [B, *size, num_outputs]."""
        raise NotImplementedError


class EncoderDecoder(PixelNetwork):
    """A network for every pixel: the maps of a backbone, made larger scale by scale.

    The scales are the sizes at which the backbone has maps (`pyramid`), and the image. From the
    coarsest on, a `Stage` `decoder1`, `decoder2`, ... makes the maps as large as the last ones of
    the next scale, which are its skip; it has as many features as these. Where convolutions without
    padding have made the encoder's maps smaller, zeros are put around the decoder's, so that pixels
    stay at their place. At the end a 1x1 convolution `head`, or a head given, a module
    [B, H, W, C] -> [B, H, W, num_outputs].

    The variables of the backbone have the paths that they have in classification, whose weights can
    be those of the encoder; only the layers after its last maps are not there. Endpoints: those of
    the backbone, `decoder1`, ...

    `decoder`: a decoder of the user's own, called as `decoder(x, skips)` with the coarsest maps
    [B, h, w, C] and the last maps of the other scales, from coarse to fine, [B, h', w', C'] each
    (and with `train` if it has such a parameter). It returns maps [B, h", w", C"], which are
    interpolated (bilinear) to the image's size.
    """

    head: nn.Module | None = None
    decoder: nn.Module | None = None
    kernel: int = 3
    activate: bool = True
    dropout: bool = True

    @nn.nowrap
    def outputs(self, x: Array, size: Size, forward: ForwardPass) -> Array:
        """The outputs, from the backbone's last maps: [B, h, w, n] -> [B, *size, num_outputs].
        Raises UserError for a decoder `max_unpool` where a pooling is missing."""
        scales = pyramid(size, forward.maps)
        if self.decoder is not None:
            skips = [scale.last for scale in reversed(scales[:-1]) if scale.last is not None]
            x = self.decoder(x, skips, **train_argument(self.decoder, forward.train))
            if getattr(x, "ndim", None) != 4:
                shape = list(getattr(x, "shape", ())) or type(x).__name__
                name = type(self.decoder).__name__
                raise ValueError(f"the decoder {name} returns {shape}; allowed: maps [B, h, w, C]")
            x = upsampling.bilinear(x, size)
        else:
            x = self._decoded(x, scales, forward)
        make = self.backbone.ingredients
        head = self.head or make.conv(self.num_outputs, 1, name="head")
        outputs: Array = head(x, **train_argument(head, forward.train))
        return outputs

    def _decoded(self, x: Array, scales: list[Scale], forward: ForwardPass) -> Array:
        make = self.backbone.ingredients
        options = {"train": forward.train, "keep_prob": forward.keep_prob}
        unpools = make.config.decoder == "max_unpool"
        pairs = zip(reversed(scales[:-1]), reversed(scales[1:]), strict=True)
        for number, (scale, coarser) in enumerate(pairs, start=1):
            pooled = _pooling(make, scale, coarser, forward.pools) if unpools else None
            stage = Stage(
                make,
                scale.last_size,
                x.shape[-1] if scale.last is None else scale.last.shape[-1],
                self.kernel,
                self.activate,
                self.dropout,
                name=f"decoder{number}",
            )
            x = upsampling.fit(x, coarser.size)
            x = rematerialized(stage, x, skip=scale.last, pooled=pooled, **options)
            x = forward.endpoint(f"decoder{number}", x)
        return upsampling.fit(x, scales[0].size)


def _pooling(make: Ingredients, scale: Scale, coarser: Scale, pools: Sequence[Pooled]) -> Pooled:
    """The pooling between two scales. Raises UserError if there is none."""
    for pooled in pools:
        if (_size(pooled.before), _size(pooled.after)) == (scale.last_size, coarser.size):
            return pooled
    height, width = scale.last_size
    others = ", ".join(name for name in catalog.DECODERS if name != "max_unpool")
    raise UserError(
        f"model.decoder: max_unpool has no pooling to undo where {make.config.name} makes maps of "
        f"{height}x{width} smaller; allowed: {others}"
    )


class Naive(Backbone):
    """`model.depth` weighted layers on maps as large as the image, all but the head 3x3
    convolutions of 64 channels: what the lecture calls too expensive. Dropout, of either kind,
    follows the last of them. Layers and endpoints: `conv1`, `conv2`, ...; `head`."""

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, H, W, 64]."""
        make = self.ingredients
        for index in range(1, make.config.depth or 2):
            x = forward(ConvBlock(make, make.width(64), name=f"conv{index}"), x)
        return forward.dropout(make.dropout("dropout"), x)


class SegNetBasic(Backbone):
    """The encoder of SegNet-Basic (Badrinarayanan, Kendall and Cipolla 2017, section 3.3): four
    times a 7x7 convolution of 64 channels, batch norm, ReLU, and pooling. Layers and endpoints:
    `conv1`, `pool1`, ..., `pool4`."""

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, H / 16, W / 16, 64]."""
        make = self.ingredients
        for index in range(1, 5):
            pool = make.pool(f"pool{index}")
            block = ConvBlock(make, make.width(64), 7, pool=pool, name=f"conv{index}")
            x = forward.endpoint(f"pool{index}", forward(block, x))
        return x


class UNet(Backbone):
    """The contracting path of U-Net (Ronneberger, Fischer and Brox 2015, figure 1): `model.depth`
    levels of two 3x3 convolutions, of 64 channels and twice as many at each level, with pooling
    between them. Dropout, of either kind, follows the last two levels, as in the authors' code.
    Layers and endpoints: `conv1_1`, `conv1_2`, `pool1`, `conv2_1`, ...

    Deviation: convolutions are padded, so that outputs are as large as the image.
    """

    @nn.nowrap
    def maps(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, H, W, C] -> [B, H / 16, W / 16, 1024]."""
        make, depth = self.ingredients, self.ingredients.config.depth or 5
        for level in range(1, depth + 1):
            width = make.width(64 * 2 ** (level - 1))
            for index in (1, 2):
                x = forward(ConvBlock(make, width, name=f"conv{level}_{index}"), x)
            if level > depth - 2:
                x = forward.map(forward.dropout(make.dropout(f"dropout{level}"), x))
            if level < depth:
                x = forward.pool(f"pool{level}", make.pool(f"pool{level}"), x)
        return x


class FCN(PixelNetwork):
    """Long, Shelhamer and Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation",
    on VGG-16.

    The hidden dense layers are convolutions, of 7x7 and 1x1, with the parameters of VGG-16, whose
    weights are those of everything but `head` and the layers after it. `head` scores each class.
    The scores are made larger by strides (`decoder1`, ...) as `model.decoder` says: `fcn32s` at
    once; `fcn8s` (three strides) twice by two, to the size of `pool4` and `pool3`, whose scores
    (1x1 convolutions `skip1`, `skip2`) are added, then by eight. Dropout: `plain` after each hidden
    layer, `spatial` after each pooling.

    Deviations: the first hidden layer is padded to keep its size, instead of 100 pixels around the
    image; the last upsampling is trained like the others; scores start as configured, not at zero.
    """

    strides: tuple[int, ...]

    @nn.nowrap
    def outputs(self, x: Array, size: Size, forward: ForwardPass) -> Array:
        """The outputs, from the backbone's last maps: [B, h, w, n] -> [B, *size, num_outputs]."""
        make = self.backbone.ingredients
        for index, units in enumerate(make.config.hidden or (), start=1):
            name = f"fc{index}"
            dense = ConvolvedDenseBlock(make, make.width(units), 7 if index == 1 else 1, name=name)
            x = forward.dropout(make.dropout(f"{name}_dropout", only="plain"), forward(dense, x))
        x = forward.endpoint("head", make.conv(self.num_outputs, 1, name="head")(x))
        skips = [pooled.after for pooled in forward.pools[-2::-1]]
        for index, stride in enumerate(self.strides, start=1):
            skip = skips[index - 1] if index < len(self.strides) else None
            x = upsampled(
                make,
                x,
                size if skip is None else _size(skip),
                self.num_outputs,
                strides=(stride, stride),
                use_bias=False,
                name=f"decoder{index}",
            )
            if skip is not None:
                x = x + make.conv(self.num_outputs, 1, name=f"skip{index}")(skip)
            x = forward.endpoint(f"decoder{index}", x)
        return x


class ConvolvedDenseBlock(nn.Module):
    """`cnnjax.nn.blocks.DenseBlock` without norm, as a convolution with the same parameters:
    [B, H, W, C] -> [B, H, W, features]. Layers: `dense`, `activation`."""

    ingredients: Ingredients
    features: int
    side: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """x: [B, H, W, C] -> [B, H, W, features]."""
        make = self.ingredients
        x = make.convolved_dense(self.features, self.side, name="dense")(x)
        return make.activation("activation")(x)


Constructor = Callable[[Ingredients, tuple[int, int, int], int, nn.Module | None], nn.Module]
"""(ingredients, (height, width, channels), number of outputs, head or None) -> network."""


def naive(
    make: Ingredients, image_shape: tuple[int, int, int], num_outputs: int, head: nn.Module | None
) -> EncoderDecoder:
    """Same-size convolutions. Takes images of any size."""
    return EncoderDecoder(Naive(make), num_outputs, head)


def segnet_basic(
    make: Ingredients, image_shape: tuple[int, int, int], num_outputs: int, head: nn.Module | None
) -> EncoderDecoder:
    """SegNet-Basic (Badrinarayanan, Kendall and Cipolla 2017, section 3.3): decoders of 7x7
    convolutions and batch norm without activation, and no biases but the head's; with 11 classes
    1,416,075 parameters (1.425 M in table 1). Raises UserError for images below 16x16 (with
    pooling)."""
    require_size("segnet_basic", image_shape, 16 if make.pools else 1)
    return EncoderDecoder(SegNetBasic(make), num_outputs, head, kernel=7, activate=False)


def unet(
    make: Ingredients, image_shape: tuple[int, int, int], num_outputs: int, head: nn.Module | None
) -> EncoderDecoder:
    """U-Net, by default with five levels: 31,030,658 parameters with one channel and two classes.
    Raises UserError for images that cannot be halved `model.depth` - 1 times."""
    smallest = 2 ** ((make.config.depth or 5) - 1)
    require_size("unet", image_shape, smallest if make.pools else 1)
    return EncoderDecoder(UNet(make), num_outputs, head, dropout=False)


def fcn(
    make: Ingredients,
    image_shape: tuple[int, int, int],
    num_outputs: int,
    head: nn.Module | None,
    *,
    strides: tuple[int, ...],
) -> FCN:
    """FCN on VGG-16. Raises UserError for images below 32x32, and TypeError for a `head`."""
    if head is not None:
        raise TypeError(f"model.name: {make.config.name!r} has a head of its own, as the task has")
    return FCN(vgg.vgg(make, image_shape, depth=16), num_outputs, strides)


SEGMENTATION_MODELS: dict[str, Constructor] = {
    "naive_segmentation": naive,
    "segnet_basic": segnet_basic,
    "unet": unet,
    "fcn32s": functools.partial(fcn, strides=(32,)),
    "fcn8s": functools.partial(fcn, strides=(2, 2, 8)),
}


def encoder_decoder(
    backbone: Backbone, num_outputs: int, head: nn.Module | None, decoder: Any = None
) -> EncoderDecoder:
    """The network of an encoder, with the configured decoder or one of the user's own: a flax
    module, or its class or a function, (ingredients) -> module.

    Raises UserError if the backbone has no maps, TypeError if the decoder is not a module.
    """
    if type(backbone).maps is Backbone.maps:
        name = backbone.ingredients.config.name
        raise UserError(
            f"model.name: {name} gives a vector for an image, and the task needs maps; allowed: a "
            "network with a method `maps` (docs/own_models.md)"
        )
    if decoder is not None and not isinstance(decoder, nn.Module):
        decoder = decoder(backbone.ingredients)
        if not isinstance(decoder, nn.Module):
            raise TypeError(f"decoder level: {decoder!r} is not a flax.linen module")
    return EncoderDecoder(backbone, num_outputs, head, decoder)
