"""The parts and the goals of the accelerator suite. Standard library only."""

import os
from pathlib import Path
from typing import NamedTuple


class PartSpec(NamedTuple):
    """One part of the suite, a function of its name in `tests.accelerator.<module>`.

    Attributes:
      module: the module that has it.
      seconds: after how many it is stopped.
      about: what it does, in a line.
      data: the data set that it needs in --data_dir.
      environment: variables of its process.
    """

    module: str
    seconds: int
    about: str
    data: str = ""
    environment: dict[str, str] = {}  # noqa: RUF012


class Goal(NamedTuple):
    """What a part should measure.

    Attributes:
      part: the part that measures it.
      text: what is measured.
      bound: the value to reach.
      least: whether the value has to be at least the bound; else at most.
      unit: the unit of the value.
      anywhere: whether it has to be met on a CPU, too.
    """

    part: str
    text: str
    bound: float
    least: bool = False
    unit: str = ""
    anywhere: bool = True


X64 = {"JAX_ENABLE_X64": "1"}
PARTS = {
    "machine": PartSpec("machine", 45, "what it is, and measured ceilings"),
    "right": PartSpec(
        "right", 130, "forward, gradients and ten steps against the CPU", environment=X64
    ),
    "equal": PartSpec("equal", 90, "jit, pmap, replicas and several steps a call", environment=X64),
    "quickstart": PartSpec("studies", 100, "the first study: alone, together, steps a call"),
    "speed_large": PartSpec("speed", 150, "ResNet-50 at 224 pixels against flax and PyTorch"),
    "speed_replicas": PartSpec("speed", 100, "1, 8, 32 and 128 replicas of small networks"),
    "resumed": PartSpec("recovery", 80, "killed and resumed, with deterministic operations"),
    "checkpoints": PartSpec("recovery", 60, "checkpoints between the device and the CPU"),
    "mnist": PartSpec("studies", 70, "the MNIST recipe, 3 seeds", data="mnist"),
    "speed_small": PartSpec("speed", 150, "small networks against flax and PyTorch"),
    "speed_loop": PartSpec("speed", 80, "whole runs: steps a call, input from memory and streamed"),
    "memory": PartSpec("recovery", 45, "memory over 2,000 steps"),
    "profile": PartSpec("profile", 60, "where the time goes where a goal was missed"),
    "cifar10": PartSpec("studies", 500, "the whole CIFAR-10 recipe", data="cifar10"),
    "residual": PartSpec("studies", 500, "ResNet-20, -56 and -110 at full size", data="cifar10"),
}
"""In order of worth: what is cut off when the time is over comes last."""

GOALS = {
    "forward": Goal("right", "logits in float32, error against float64 over the CPU's", 10),
    "gradient": Goal("right", "gradients in float32, error against float64 over the CPU's", 10),
    "steps": Goal("right", "ten steps in float64, largest difference from the CPU", 1e-9),
    "equal": Goal("equal", "jit, pmap, replicas, several steps a call: largest difference", 1e-9),
    "bits": Goal("resumed", "resumed runs that end with the bits of an uninterrupted one", 1, True),
    "restored": Goal("checkpoints", "loss of a checkpoint there and here, relative", 1e-3),
    "growth": Goal("memory", "growth over the steps, on the device and on the host", 16, unit="MB"),
    "resnet50": Goal(
        "speed_large", "ResNet-50 in bfloat16 over PyTorch compiled", 1.1, True, "x", False
    ),
    "replicas": Goal(
        "speed_replicas", "32 LeNets together over one by one", 10, True, "x", False
    ),
    "cifar10": Goal(
        "cifar10",
        "CIFAR-10 at 94 % (far goal: airbench94_compiled on an A100, as its README says)",
        3.09,
        unit="s",
        anywhere=False,
    ),
}  # fmt: skip


def has_data(data_dir: str, name: str) -> bool:
    """Whether `--data_dir` has a data set where `launch` looks for it."""
    return bool(data_dir) and any(Path(data_dir, part, name).is_dir() for part in ("", "tfds"))


def write(path: Path, text: str) -> None:
    """Writes a file that is whole at every moment."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
