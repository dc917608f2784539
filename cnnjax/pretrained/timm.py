"""timm's layout: torchvision's names except for the dense layers of VGG, with the preprocessing in
a `config.json` beside the weights (as on the Hugging Face hub)."""

import functools
import math
from collections.abc import Mapping
from typing import Any

from cnnjax.errors import UserError
from cnnjax.models.vgg import CONVOLUTIONS
from cnnjax.pretrained import torchvision
from cnnjax.pretrained.layout import Layout, SourceModule, torch_rule


def vgg(depth: int, norm: bool) -> dict[str, SourceModule]:
    """VGG, whose first dense layer is a 7x7 convolution and the second one a 1x1."""
    return torchvision.vgg_features(depth, norm) | {
        "fc1/dense": SourceModule("pre_logits.fc1", channels=512, convolution=True),
        "fc2/dense": SourceModule("pre_logits.fc2", channels=4096, convolution=True),
        "head": SourceModule("head.fc"),
    }


def preprocessing(file: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a timm `config.json`, whose name is `file`.

    Raises UserError if it needs something for which there is no field.
    """
    values = config.get("pretrained_cfg", config)
    try:
        channels, height, width = map(int, values.get("input_size", (3, 224, 224)))
        mean, sd = (tuple(map(float, values[name])) for name in ("mean", "std"))
        share = float(values.get("crop_pct") or 0.875)
        mode = values.get("crop_mode") or "center"
        interpolation = str(values.get("interpolation") or "bilinear")
        shorter = math.floor(height / share)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{file}: is not a config of timm ({type(error).__name__}: {error})."
        ) from None
    if not 0 < share <= 1 or len(mean) != 3 or len(sd) != 3:
        raise UserError(
            f"{file}: crop_pct {share:g}, mean {list(mean)}, std {list(sd)}: allowed: a share "
            "above 0 and at most 1, and three numbers each"
        )
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise UserError(
            f"{file}: input_size {channels}x{height}x{width} with "
            f"crop_mode {mode} has no field; allowed: squares of three channels, center or squash"
        )
    fields = torchvision.imagenet(height, shorter, mean, sd)
    if mode == "squash":
        fields["data.shorter_side"] = None
    return fields | {"data.interpolation": interpolation}


def config(model: str) -> dict[str, Any]:
    """The preprocessing that timm has by default for a network."""
    if model != "inception_v3":
        return torchvision.imagenet()
    half = torchvision.HALF
    return torchvision.imagenet(299, 341, half, half) | {"data.interpolation": "bicubic"}


LAYOUT = Layout(
    models={
        name: modules
        for name, modules in torchvision.LAYOUT.models.items()
        if name.startswith(("resnet", "inception"))
    }
    | {f"vgg{depth}": functools.partial(vgg, depth, False) for depth in CONVOLUTIONS}
    | {f"vgg{depth}_bn": functools.partial(vgg, depth, True) for depth in CONVOLUTIONS},
    rule=torch_rule,
    config=config,
    ignored=torchvision.ignored,
    auxiliary=torchvision.LAYOUT.auxiliary,
)
