"""The layout of keras.applications: VGG, Inception v3 and ResNet (the first version).

No layer of these has uneven padding: where TensorFlow's SAME would (stride 2), Keras pads
explicitly or not at all. Differences from torch are fields of the configuration: the epsilon, the
stride on the first 1x1 convolution of a bottleneck, averages without the zeros around the image,
and running statistics of batch norm with an alpha of 0.01.
"""

import functools
import re
from typing import Any

from cnnjax.models.resnet import IMAGENET
from cnnjax.models.vgg import CONVOLUTIONS
from cnnjax.pretrained import torchvision
from cnnjax.pretrained.layout import Layout, SourceModule, keras_rule
from cnnjax.pretrained.reading import Stored


def vgg(depth: int) -> dict[str, SourceModule]:
    """VGG."""
    modules = {
        "fc1/dense": SourceModule("fc1"),
        "fc2/dense": SourceModule("fc2"),
        "head": SourceModule("predictions"),
    }
    for stage, count in enumerate(CONVOLUTIONS[depth], start=1):
        for index in range(1, count + 1):
            modules[f"conv{stage}_{index}/conv"] = SourceModule(f"block{stage}_conv{index}")
    return modules


def resnet(depth: int) -> dict[str, SourceModule]:
    """ResNet, whose convolutions have biases."""
    modules = {"head": SourceModule("predictions")}
    names = {"conv1": "conv1"}
    for stage, count in enumerate(IMAGENET[depth][0], start=1):
        for block in range(1, count + 1):
            ours, theirs = f"stage{stage}_block{block}", f"conv{stage + 1}_block{block}"
            names |= {f"{ours}/conv{index}": f"{theirs}_{index}" for index in (1, 2, 3)}
            names[f"{ours}/shortcut"] = f"{theirs}_0"
    for ours, theirs in names.items():
        modules[f"{ours}/conv"] = SourceModule(f"{theirs}_conv")
        modules[f"{ours}/norm"] = SourceModule(f"{theirs}_bn", bias_of=f"{theirs}_conv")
    return modules


def inception_v3() -> dict[str, SourceModule]:
    """Inception v3, whose layers are numbered in the order of their creation, and whose norms have
    no scale."""
    modules = {"head": SourceModule("predictions")}
    for index, layer in enumerate(torchvision.INCEPTION):
        modules[f"{layer}/conv"] = SourceModule(f"conv2d#{index}")
        modules[f"{layer}/norm"] = SourceModule(f"batch_normalization#{index}", scale=False)
    return modules


def renumber(arrays: dict[str, Stored]) -> dict[str, Stored]:
    """Renames `conv2d_95/0`, ... to `conv2d#0/0`, ...: Keras continues counting over networks."""
    names: dict[str, str] = {}
    for kind in ("conv2d", "batch_normalization"):
        pattern = re.compile(rf"{kind}(?:_(\d+))?/\d+")
        matches = (pattern.fullmatch(name) for name in arrays)
        numbers = sorted({int(match[1] or 0) for match in matches if match})
        for index, number in enumerate(numbers):
            layer = f"{kind}_{number}" if number else kind
            names |= {f"{layer}/{array}": f"{kind}#{index}/{array}" for array in range(4)}
    return {names.get(name, name): stored for name, stored in arrays.items()}


def config(model: str) -> dict[str, Any]:
    """Images as by `preprocess_input`: blue, green, red in 0..255 minus their means for VGG and
    ResNet, -1..1 for Inception; centre crops, as for the published accuracies."""
    if model == "inception_v3":
        fields = torchvision.imagenet(299, 342, torchvision.HALF, torchvision.HALF)
        return fields | {"model.norm.alpha": 0.01, "model.count_include_pad": False}
    mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
    fields = torchvision.imagenet(mean=mean, sd=(1 / 255,) * 3) | {"data.channel_order": "bgr"}
    if model.startswith("vgg"):
        return fields
    norm = {"model.norm.alpha": 0.01, "model.norm.epsilon": 1.001e-5}
    return fields | norm | {"model.stride_on": "first"}


LAYOUT = Layout(
    models={
        **{f"vgg{depth}": functools.partial(vgg, depth) for depth in (16, 19)},
        "inception_v3": inception_v3,
        **{f"resnet{depth}": functools.partial(resnet, depth) for depth in (50, 101, 152)},
    },
    rule=keras_rule,
    config=config,
    rename=renumber,
)
