"""timm's layout: torchvision's names but for the dense layers of VGG, and preprocessing of its own,
which a `config.json` beside the weights tells (as on the Hugging Face hub)."""

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


def preprocessing(where: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a timm `config.json` (called `where`) asks for.

    Raises UserError where it asks for something that there is no field for.
    """
    asked = beside.get("pretrained_cfg", beside)
    try:
        channels, height, width = map(int, asked.get("input_size", (3, 224, 224)))
        mean, sd = (tuple(map(float, asked[name])) for name in ("mean", "std"))
        share = float(asked.get("crop_pct") or 0.875)
        mode = asked.get("crop_mode") or "center"
        interpolation = str(asked.get("interpolation") or "bilinear")
        shorter = math.floor(height / share)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{where}: is not as timm writes it ({type(error).__name__}: {error})."
        ) from None
    if not 0 < share <= 1 or len(mean) != 3 or len(sd) != 3:
        raise UserError(
            f"{where}: crop_pct {share:g}, mean {list(mean)}, std {list(sd)}: allowed are a share "
            "above 0 and up to 1, and three numbers each"
        )
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise UserError(
            f"{where}: input_size {channels}x{height}x{width} with "
            f"crop_mode {mode} is not known; allowed: squares of three channels, center or squash"
        )
    fields = torchvision.imagenet(height, shorter, mean, sd)
    if mode == "squash":
        fields["data.shorter_side"] = None
    return fields | {"data.interpolation": interpolation}


def config(model: str) -> dict[str, Any]:
    """The preprocessing of timm's own defaults for a network."""
    if model != "inception_v3":
        return torchvision.imagenet()
    half = (0.5, 0.5, 0.5)
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
