"""PyTorch, channels-last, eager or compiled: python -m tests.peers.torch_peer TASK [compile]"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from launch import timing


class Conv(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, padding=1, norm=True, epsilon=1e-5):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs, eps=epsilon) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.conv(x))


class Dense(nn.Module):
    def __init__(self, inputs, outputs, norm=False):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs, bias=not norm)
        self.norm = nn.BatchNorm1d(outputs) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.dense(x))


def flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)  # in the order of NHWC


class Lenet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv(1, 6, 5, padding=2, norm=False)
        self.conv2 = Conv(6, 16, 5, padding=0, norm=False)
        self.fc1, self.fc2, self.head = Dense(400, 120), Dense(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(F.relu(self.fc2(F.relu(self.fc1(flatten(x))))))


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        inputs = 3
        for stage, width in enumerate((32, 64, 128), 1):
            for index in (1, 2):
                self.add_module(f"conv{stage}_{index}", Conv(inputs, width))
                inputs = width
        self.fc1, self.head = Dense(2048, 128, norm=True), nn.Linear(128, 10)

    def forward(self, x):
        for stage in (1, 2, 3):
            for index in (1, 2):
                x = F.relu(getattr(self, f"conv{stage}_{index}")(x))
            x = F.max_pool2d(x, 2)
        return self.head(F.relu(self.fc1(flatten(x))))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, projects=False):
        super().__init__()
        self.conv1, self.conv2 = Conv(inputs, outputs, stride=stride), Conv(outputs, outputs)
        self.shortcut = Conv(inputs, outputs, 1, 2, 0) if projects and stride == 2 else None
        self.missing = 0 if projects else (outputs - inputs) // 2

    def forward(self, x):
        y = self.conv2(F.relu(self.conv1(x)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.missing:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing, self.missing))
        return F.relu(y + x)


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv(3, 16)
        inputs, blocks = 16, []
        for stage, width in enumerate((16, 32, 64), 1):
            for block in (1, 2, 3):
                stride = 2 if stage > 1 and block == 1 else 1
                blocks.append((f"stage{stage}_block{block}", Block(inputs, width, stride)))
                inputs = width
        for name, block in blocks:
            self.add_module(name, block)
        self.names = [name for name, _ in blocks]
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


class Resnet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv(3, 64, 7, 2, 3)
        inputs, self.names = 64, []
        for stage, width in enumerate((64, 128, 256, 512), 1):
            for block in (1, 2):
                stride = 2 if stage > 1 and block == 1 else 1
                self.names.append(f"stage{stage}_block{block}")
                self.add_module(self.names[-1], Block(inputs, width, stride, projects=True))
                inputs = width
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = Conv(inputs, width, 1, padding=0)
        self.conv2, self.conv3 = Conv(width, width, stride=stride), Conv(width, 4 * width, 1, 1, 0)
        whole = inputs == 4 * width
        self.shortcut = nn.Identity() if whole else Conv(inputs, 4 * width, 1, stride, 0)

    def forward(self, x):
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Resnet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv(3, 64, 7, 2, 3)
        inputs, self.names = 64, []
        for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            for block in range(1, blocks + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                self.names.append(f"stage{stage}_block{block}")
                self.add_module(self.names[-1], Bottleneck(inputs, width, stride))
                inputs = 4 * width
        self.head = nn.Linear(2048, 10)

    forward = Resnet18.forward


class Mixed(nn.Module):
    def __init__(self, inputs, n):
        super().__init__()
        sizes = {
            "branch1_1": (inputs, n, 1),
            "branch2_1": (inputs, n // 2, 1),
            "branch2_2": (n // 2, n, 3),
            "branch3_1": (inputs, n // 2, 1),
            "branch3_2": (n // 2, n, 5),
            "branch4_1": (inputs, n, 1),
        }
        for name, (before, after, kernel) in sizes.items():
            conv = Conv(before, after, kernel, padding=kernel // 2, epsilon=1e-3)
            self.add_module(name, conv)

    def forward(self, x):
        second = F.relu(self.branch2_2(F.relu(self.branch2_1(x))))
        third = F.relu(self.branch3_2(F.relu(self.branch3_1(x))))
        fourth = F.relu(self.branch4_1(F.max_pool2d(x, 3, 1, 1)))
        return torch.cat((F.relu(self.branch1_1(x)), second, third, fourth), 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = Conv(3, 32, epsilon=1e-3)
        inputs = 32
        for stage, width in enumerate((16, 32, 64), 1):
            for index in (1, 2):
                self.add_module(f"mixed{stage}_{index}", Mixed(inputs, width))
                inputs = 4 * width
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        for stage in (1, 2, 3):
            x = F.max_pool2d(x, 2) if stage > 1 else x
            for index in (1, 2):
                x = getattr(self, f"mixed{stage}_{index}")(x)
        return self.head(x.mean((2, 3)))


class Decoder(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        self.conv1 = Conv(2 * outputs, outputs, norm=False)
        self.conv2 = Conv(outputs, outputs, norm=False)

    def forward(self, x, skip):
        x = torch.cat((self.upsample(x), skip), 1)
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        inputs, widths = 3, (16, 32, 64, 128)
        for level, width in enumerate(widths, 1):
            for index in (1, 2):
                self.add_module(f"conv{level}_{index}", Conv(inputs, width, norm=False))
                inputs = width
        for number, width in enumerate(widths[-2::-1], 1):
            self.add_module(f"decoder{number}", Decoder(inputs, width))
            inputs = width
        self.head = nn.Conv2d(inputs, 10, 1)

    def forward(self, x):
        skips = []
        for level in (1, 2, 3, 4):
            x = F.max_pool2d(x, 2) if level > 1 else x
            for index in (1, 2):
                x = F.relu(getattr(self, f"conv{level}_{index}")(x))
            skips.append(x)
        for number, skip in enumerate(skips[-2::-1], 1):
            x = getattr(self, f"decoder{number}")(x, skip)
        return self.head(x)


NETWORKS = {
    "lenet5_modern": Lenet,
    "vgg_small": Vgg,
    "resnet20": Resnet,
    "inception_small": Inception,
    "resnet18": Resnet18,
    "resnet50": Resnet50,
    "unet": Unet,
}


def load(network, weights):
    """Sets the weights, given under the names of cnnjax."""
    own = dict(network.named_parameters())
    for path, value in weights.items():
        name, _, leaf = path.replace("/", ".").rpartition(".")
        value = torch.from_numpy(np.array(value))
        if isinstance(network.get_submodule(name), nn.ConvTranspose2d) and leaf == "kernel":
            value = value.permute(2, 3, 0, 1)
        elif leaf == "kernel":
            value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T
        parameter = own.pop(f"{name}.{'bias' if leaf == 'bias' else 'weight'}")
        assert parameter.shape == value.shape, path
        parameter.data.copy_(value)
    assert not own, list(own)


def main(task, compiled):
    torch.set_num_threads(task["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = np.load(task["arrays"])
    network = NETWORKS[task["network"]]()
    load(network, {key[2:]: arrays[key] for key in arrays.files if key.startswith("p/")})
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.from_numpy(arrays["images"]).to(device).float() / 255
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(arrays["targets"]).to(device).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=task["learning_rate"], momentum=0.9)
    forward = torch.compile(network) if compiled else network
    low = task["precision"] == "bfloat16"

    def step():
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = F.cross_entropy(forward(images).float(), labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    if device == "cpu":
        timing.serve(step, {"version": torch.__version__, "device": device})
    else:
        about = {"version": torch.__version__, "device": torch.cuda.get_device_name()}
        timing.serve(step, about, torch.cuda.max_memory_allocated)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file), "compile" in sys.argv)
