"""Networks in plain PyTorch whose state dicts are called as those of torchvision, timm and the
CIFAR residual networks: what parity is tested against."""

import torch
import torch.nn.functional as F
from torch import nn

VGG = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class AlexNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        pool = {"kernel_size": 3, "stride": 2}
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(**pool),
            nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(**pool),
            nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(**pool),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def vgg_features(depth, norm):
    layers, inputs = [], 3
    for width, count in zip((64, 128, 256, 512, 512), VGG[depth], strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers.append(nn.ReLU())
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Vgg(nn.Module):
    """As torchvision; `side` is that of the last maps, 7 for images of 224 pixels."""

    def __init__(self, depth, norm, classes, side):
        super().__init__()
        self.features = vgg_features(depth, norm)
        self.classifier = nn.Sequential(
            nn.Linear(512 * side * side, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class TimmVgg(nn.Module):
    """As timm: dense layers as convolutions."""

    def __init__(self, depth, norm, classes, side):
        super().__init__()
        self.features = vgg_features(depth, norm)
        self.pre_logits, self.head = nn.Module(), nn.Module()
        self.pre_logits.fc1 = nn.Conv2d(512, 4096, side)
        self.pre_logits.fc2 = nn.Conv2d(4096, 4096, 1)
        self.head.fc = nn.Linear(4096, classes)

    def forward(self, x):
        x = F.relu(self.pre_logits.fc1(self.features(x)))
        return self.head.fc(F.relu(self.pre_logits.fc2(x)).flatten(1))


class Basic(nn.Module):
    """A convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


BLOCKS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    class Block(nn.Module):
        def __init__(self, inputs, one, three1, three, five1, five, pooled):
            super().__init__()
            self.branch1 = Basic(inputs, one, 1)
            self.branch2 = nn.Sequential(
                Basic(inputs, three1, 1), Basic(three1, three, 3, padding=1)
            )
            self.branch3 = nn.Sequential(Basic(inputs, five1, 1), Basic(five1, five, 3, padding=1))
            self.branch4 = nn.Sequential(
                nn.MaxPool2d(3, 1, 1, ceil_mode=True), Basic(inputs, pooled, 1)
            )

        def forward(self, x):
            branches = self.branch1, self.branch2, self.branch3, self.branch4
            return torch.cat([branch(x) for branch in branches], 1)

    class Auxiliary(nn.Module):
        def __init__(self, inputs, classes):
            super().__init__()
            self.conv = Basic(inputs, 128, 1)
            self.fc1, self.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, classes)

        def forward(self, x):
            x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
            return self.fc2(F.relu(self.fc1(x)))

    def __init__(self, classes):
        super().__init__()
        self.conv1 = Basic(3, 64, 7, 2, 3)
        self.conv2, self.conv3 = Basic(64, 64, 1), Basic(64, 192, 3, 1, 1)
        for name, widths in BLOCKS.items():
            self.add_module(f"inception{name}", self.Block(*widths))
        self.aux1, self.aux2 = self.Auxiliary(512, classes), self.Auxiliary(528, classes)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        """(logits, those of both auxiliary heads), without dropout."""
        found = {}
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        for name in BLOCKS:
            x = found[name] = getattr(self, f"inception{name}")(x)
            if name in ("3b", "4e"):
                x = F.max_pool2d(x, 3 if name == "3b" else 2, 2, ceil_mode=True)
        return self.fc(x.mean((2, 3))), [self.aux1(found["4a"]), self.aux2(found["4d"])]


class InceptionV3(nn.Module):
    """As torchvision, or without its auxiliary head as timm."""

    def __init__(self, classes, auxiliary=True):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Basic(3, 32, 3, 2), Basic(32, 32, 3)
        self.Conv2d_2b_3x3 = Basic(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Basic(64, 80, 1), Basic(80, 192, 3)
        for name, inputs, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            self.add_module(f"Mixed_{name}", self.a(inputs, pooled))
        self.Mixed_6a = self.rows(
            branch3x3=[(288, 384, 3, 2)],
            branch3x3dbl=[(288, 64, 1), (64, 96, 3), (96, 96, 3, 2)],
        )
        for name, n in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            self.add_module(f"Mixed_{name}", self.c(n))
        self.Mixed_7a = self.rows(
            branch3x3=[(768, 192, 1), (192, 320, 3, 2)],
            branch7x7x3=[(768, 192, 1), (192, 192, (1, 7)), (192, 192, (7, 1)), (192, 192, 3, 2)],
        )
        self.Mixed_7b, self.Mixed_7c = self.e(1280), self.e(2048)
        if auxiliary:
            self.AuxLogits = nn.Module()
            self.AuxLogits.conv0, self.AuxLogits.conv1 = Basic(768, 128, 1), Basic(128, 768, 5)
            self.AuxLogits.fc = nn.Linear(768, classes)
        self.fc = nn.Linear(2048, classes)

    @staticmethod
    def rows(**branches):
        """A module of convolutions: `name`, or `name_1`, `name_2`, ... of those in a row."""
        made = nn.Module()
        for name, layers in branches.items():
            for place, (inputs, outputs, kernel, *stride) in enumerate(layers, start=1):
                sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
                padding = (0, 0) if stride else (sides[0] // 2, sides[1] // 2)
                layer = Basic(inputs, outputs, kernel, *(stride or [1]), padding)
                made.add_module(name if len(layers) == 1 else f"{name}_{place}", layer)
        return made

    def a(self, inputs, pooled):
        return self.rows(
            branch1x1=[(inputs, 64, 1)],
            branch5x5=[(inputs, 48, 1), (48, 64, 5)],
            branch3x3dbl=[(inputs, 64, 1), (64, 96, 3), (96, 96, 3)],
            branch_pool=[(inputs, pooled, 1)],
        )

    def c(self, n):
        row, column = (1, 7), (7, 1)
        return self.rows(
            branch1x1=[(768, 192, 1)],
            branch7x7=[(768, n, 1), (n, n, row), (n, 192, column)],
            branch7x7dbl=[(768, n, 1), (n, n, column), (n, n, row), (n, n, column), (n, 192, row)],
            branch_pool=[(768, 192, 1)],
        )

    def e(self, inputs):
        return self.rows(
            branch1x1=[(inputs, 320, 1)],
            branch3x3_1=[(inputs, 384, 1)],
            branch3x3_2a=[(384, 384, (1, 3))],
            branch3x3_2b=[(384, 384, (3, 1))],
            branch3x3dbl=[(inputs, 448, 1), (448, 384, 3)],
            branch3x3dbl_3a=[(384, 384, (1, 3))],
            branch3x3dbl_3b=[(384, 384, (3, 1))],
            branch_pool=[(inputs, 192, 1)],
        )

    def forward(self, x):
        """(logits, those of the auxiliary head if there is one), without dropout."""
        heads = []
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d):
            x = self.side_by_side(block, x, ("branch1x1", "branch5x5", "branch3x3dbl"))
        x = self.side_by_side(self.Mixed_6a, x, ("branch3x3", "branch3x3dbl"))
        for block in (self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e):
            x = self.side_by_side(block, x, ("branch1x1", "branch7x7", "branch7x7dbl"))
        if hasattr(self, "AuxLogits"):
            aux = self.AuxLogits.conv1(self.AuxLogits.conv0(F.avg_pool2d(x, 5, 3)))
            heads = [self.AuxLogits.fc(aux.mean((2, 3)))]
        x = self.side_by_side(self.Mixed_7a, x, ("branch3x3", "branch7x7x3"))
        for block in (self.Mixed_7b, self.Mixed_7c):
            three = block.branch3x3_1(x)
            double = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
            x = torch.cat(
                [
                    block.branch1x1(x),
                    block.branch3x3_2a(three), block.branch3x3_2b(three),
                    block.branch3x3dbl_3a(double), block.branch3x3dbl_3b(double),
                    block.branch_pool(F.avg_pool2d(x, 3, 1, 1)),
                ],
                1,
            )  # fmt: skip
        return self.fc(x.mean((2, 3))), heads

    @staticmethod
    def side_by_side(block, x, names):
        layers, parts = dict(block.named_children()), []
        for name in names:
            part = x
            for place in [name] if name in layers else range(1, 6):
                key = place if place == name else f"{name}_{place}"
                part = layers[key](part) if key in layers else part
            parts.append(part)
        if "branch_pool" in layers:
            parts.append(layers["branch_pool"](F.avg_pool2d(x, 3, 1, 1)))
        else:
            parts.append(F.max_pool2d(x, 3, 2))
        return torch.cat(parts, 1)


class Residual(nn.Module):
    """A block of two 3x3 convolutions, or a bottleneck with its stride on the 3x3."""

    def __init__(self, inputs, width, stride, bottleneck, projects):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
            if bottleneck
            else [(inputs, width, 3, stride), (width, width, 3, 1)]
        )
        self.count = len(sizes)
        for place, (before, after, kernel, step) in enumerate(sizes, start=1):
            conv = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{place}", conv)
            self.add_module(f"bn{place}", nn.BatchNorm2d(after))
        if projects and (stride, inputs) != (1, outputs):
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.projects, self.stride, self.missing = projects, stride, outputs - inputs

    def forward(self, x):
        y = x
        for place in range(1, self.count + 1):
            y = getattr(self, f"bn{place}")(getattr(self, f"conv{place}")(y))
            y = F.relu(y) if place < self.count else y
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif not self.projects and self.missing:
            half = self.missing // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(x + y)


class ResNet(nn.Module):
    """As torchvision (four stages, `fc`) or as the CIFAR networks (three, `linear`)."""

    def __init__(self, stages, bottleneck, classes):
        super().__init__()
        self.small, base = len(stages) == 3, 16 if len(stages) == 3 else 64
        self.conv1 = (
            nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            if self.small
            else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        )
        self.bn1, inputs = nn.BatchNorm2d(base), base
        for stage, count in enumerate(stages, start=1):
            width, layers = base * 2 ** (stage - 1), []
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(Residual(inputs, width, stride, bottleneck, not self.small))
                inputs = 4 * width if bottleneck else width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.names = [f"layer{stage}" for stage in range(1, len(stages) + 1)]
        self.add_module("linear" if self.small else "fc", nn.Linear(inputs, classes))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.small else F.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = getattr(self, name)(x)
        return (self.linear if self.small else self.fc)(x.mean((2, 3)))
