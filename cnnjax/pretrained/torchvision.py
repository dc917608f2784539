"""torchvision's layout, and the preprocessing of its first weights (`IMAGENET1K_V1`)."""

import functools
from collections.abc import Mapping
from typing import Any

from cnnjax.models.resnet import IMAGENET
from cnnjax.models.vgg import CONVOLUTIONS
from cnnjax.pretrained.layout import Layout, SourceModule, torch_rule

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

HALF = (0.5, 0.5, 0.5)


def blocks(names: Mapping[str, str]) -> dict[str, SourceModule]:
    """The convolution and norm of each block in `names`, {block: module}."""
    return {
        f"{block}/{ours}": SourceModule(f"{name}.{theirs}")
        for block, name in names.items()
        for ours, theirs in (("conv", "conv"), ("norm", "bn"))
    }


def alexnet() -> dict[str, SourceModule]:
    """Krizhevsky 2014, one tower."""
    indices = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
    return {
        f"{name}/conv": SourceModule(f"features.{index}") for name, index in indices.items()
    } | {
        "fc1/dense": SourceModule("classifier.1", channels=256),
        "fc2/dense": SourceModule("classifier.4"),
        "head": SourceModule("classifier.6"),
    }


def vgg_features(depth: int, norm: bool) -> dict[str, SourceModule]:
    """The convolutions of VGG (and their norms) as modules of one sequence."""
    modules, position = {}, 0
    for stage, count in enumerate(CONVOLUTIONS[depth], start=1):
        for index in range(1, count + 1):
            modules[f"conv{stage}_{index}/conv"] = SourceModule(f"features.{position}")
            if norm:
                modules[f"conv{stage}_{index}/norm"] = SourceModule(f"features.{position + 1}")
            position += 3 if norm else 2
        position += 1
    return modules


def vgg(depth: int, norm: bool) -> dict[str, SourceModule]:
    """VGG, with or without batch norm."""
    return vgg_features(depth, norm) | {
        "fc1/dense": SourceModule("classifier.0", channels=512),
        "fc2/dense": SourceModule("classifier.3"),
        "head": SourceModule("classifier.6"),
    }


def resnet(
    stages: tuple[int, ...], head: str = "fc", shortcut: str = "downsample"
) -> dict[str, SourceModule]:
    """Residual networks; `stages` are the blocks of each, `head` and `shortcut` the source's names
    of the last layer and of the projections. Not every block has a third convolution, which
    bottlenecks have, or a projection."""
    layers = [(f"conv{index}", f"conv{index}", f"bn{index}") for index in (1, 2, 3)]
    layers.append(("shortcut", f"{shortcut}.0", f"{shortcut}.1"))
    modules = {
        "conv1/conv": SourceModule("conv1"),
        "conv1/norm": SourceModule("bn1"),
        "head": SourceModule(head),
    }
    for stage, count in enumerate(stages, start=1):
        for block in range(count):
            ours, theirs = f"stage{stage}_block{block + 1}", f"layer{stage}.{block}"
            for layer, conv, norm in layers:
                modules[f"{ours}/{layer}/conv"] = SourceModule(f"{theirs}.{conv}")
                modules[f"{ours}/{layer}/norm"] = SourceModule(f"{theirs}.{norm}")
    return modules


def googlenet() -> dict[str, SourceModule]:
    """GoogLeNet with batch norm and its two auxiliary heads."""
    names = {name: name for name in ("conv1", "conv2", "conv3")}
    branches = {"branch1_1": "branch1", "branch4_1": "branch4.1"} | {
        f"branch{branch}_{layer}": f"branch{branch}.{layer - 1}"
        for branch in (2, 3)
        for layer in (1, 2)
    }
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for ours, theirs in branches.items():
            names[f"mixed{block}/{ours}"] = f"inception{block}.{theirs}"
    modules = {"head": SourceModule("fc")}
    for number in (1, 2):
        names[f"auxiliary{number}_conv"] = f"aux{number}.conv"
        modules[f"auxiliary{number}_fc/dense"] = SourceModule(f"aux{number}.fc1", channels=128)
        modules[f"auxiliary{number}_head"] = SourceModule(f"aux{number}.fc2")
    return modules | blocks(names)


def _sequence(ours: str, theirs: str, count: int) -> dict[str, str]:
    return {f"{ours}_{index}": f"{theirs}_{index}" for index in range(1, count + 1)}


_ONE, _POOLED = {"branch1_1": "branch1x1"}, {"branch4_1": "branch_pool"}
_A = _ONE | _sequence("branch2", "branch5x5", 2) | _sequence("branch3", "branch3x3dbl", 3) | _POOLED
_B = {"branch1_1": "branch3x3"} | _sequence("branch2", "branch3x3dbl", 3)
_C = _ONE | _sequence("branch2", "branch7x7", 3) | _sequence("branch3", "branch7x7dbl", 5) | _POOLED
_D = _sequence("branch1", "branch3x3", 2) | _sequence("branch2", "branch7x7x3", 4)
_E = {
    **_ONE,
    "branch2_1": "branch3x3_1",
    "branch2a_1": "branch3x3_2a",
    "branch2b_1": "branch3x3_2b",
    **_sequence("branch3", "branch3x3dbl", 2),
    "branch3a_1": "branch3x3dbl_3a",
    "branch3b_1": "branch3x3dbl_3b",
    **_POOLED,
}
_BLOCKS = {
    **dict.fromkeys(("5b", "5c", "5d"), _A),
    "6a": _B,
    **dict.fromkeys(("6b", "6c", "6d", "6e"), _C),
    "7a": _D,
    **dict.fromkeys(("7b", "7c"), _E),
}
INCEPTION = {
    "conv1": "Conv2d_1a_3x3",
    "conv2": "Conv2d_2a_3x3",
    "conv3": "Conv2d_2b_3x3",
    "conv4": "Conv2d_3b_1x1",
    "conv5": "Conv2d_4a_3x3",
} | {
    f"mixed{number}/{ours}": f"Mixed_{letter}.{theirs}"
    for number, (letter, branches) in enumerate(_BLOCKS.items(), start=1)
    for ours, theirs in branches.items()
}
"""The convolutions of Inception v3 without its auxiliary head, in the order of their definition."""


def inception_v3() -> dict[str, SourceModule]:
    """Inception v3 with its auxiliary head."""
    auxiliary = {"auxiliary_conv1": "AuxLogits.conv0", "auxiliary_conv2": "AuxLogits.conv1"}
    return blocks(INCEPTION | auxiliary) | {
        "head": SourceModule("fc"),
        "auxiliary_head": SourceModule("AuxLogits.fc"),
    }


def imagenet(
    size: int = 224,
    shorter: int = 256,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    sd: tuple[float, ...] = IMAGENET_SD,
) -> dict[str, Any]:
    """The fields of preprocessing: resize, centre crop, normalize."""
    return {
        "data.name": "imagenet2012",
        "data.image_size": size,
        "data.shorter_side": shorter,
        "data.normalize": "given",
        "data.mean": mean,
        "data.sd": sd,
    }


def config(model: str) -> dict[str, Any]:
    """The fields of `IMAGENET1K_V1`. GoogLeNet and Inception are from TensorFlow: images in
    -1..1."""
    if model == "googlenet":
        return imagenet(mean=HALF, sd=HALF)
    if model == "inception_v3":
        return imagenet(299, 342, HALF, HALF)
    return imagenet()


def ignored(name: str) -> bool:
    """Whether an array is a counter of batches."""
    return name.endswith(".num_batches_tracked")


LAYOUT = Layout(
    models={
        "alexnet": alexnet,
        **{f"vgg{depth}": functools.partial(vgg, depth, False) for depth in CONVOLUTIONS},
        **{f"vgg{depth}_bn": functools.partial(vgg, depth, True) for depth in CONVOLUTIONS},
        "googlenet": googlenet,
        "inception_v3": inception_v3,
        **{f"resnet{depth}": functools.partial(resnet, IMAGENET[depth][0]) for depth in IMAGENET},
    },
    rule=torch_rule,
    config=config,
    ignored=ignored,
    auxiliary=("aux1.", "aux2.", "AuxLogits."),
)
