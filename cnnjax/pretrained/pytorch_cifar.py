"""The widespread PyTorch layout of the residual networks for CIFAR-10: `layer1.0.conv1`, `linear`,
shortcuts without parameters (option A) or `shortcut.0`, `shortcut.1` (option B: model.shortcut=B);
images scaled as for ImageNet."""

import functools

from cnnjax.pretrained import torchvision
from cnnjax.pretrained.layout import Layout, torch_rule

DEPTHS = (20, 32, 44, 56, 110, 1202)

LAYOUT = Layout(
    models={
        f"resnet{depth}": functools.partial(
            torchvision.resnet, ((depth - 2) // 6,) * 3, "linear", "shortcut"
        )
        for depth in DEPTHS
    },
    rule=torch_rule,
    config=lambda model: {
        "data.name": "cifar10",
        "data.image_size": 32,
        "data.normalize": "given",
        "data.mean": torchvision.IMAGENET_MEAN,
        "data.sd": torchvision.IMAGENET_SD,
    },
    ignored=torchvision.ignored,
)
