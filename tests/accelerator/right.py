"""The device computes what the CPU does: logits, gradients and ten steps of every family."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models
from cnnjax.config import RunConfig, Training, override, resolve
from cnnjax.data import augment
from cnnjax.nn import operations
from cnnjax.tasks import classification
from cnnjax.train import optim, state, step
from tests.accelerator.part import Part

CLASSES, STEPS = 10, 10
FAMILIES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "lenet5": ((32, 32, 1), {}),
    "vgg_small": ((32, 32, 3), {}),
    "resnet20": ((32, 32, 3), {}),
    "resnet20, no norm": ((32, 32, 3), {"model.norm.kind": "none"}),
    "inception_small": ((32, 32, 3), {}),
    "resnet18": ((64, 64, 3), {}),
    "alexnet": ((227, 227, 3), {}),
}
"""A network of each family: the shape of its images, and what differs from it as it is."""


class Way(NamedTuple):
    """Where and in what numbers a network is computed."""

    where: jax.Device
    dtype: Any
    precision: str = "highest"

    @property
    def wide(self) -> Any:
        """The type of the parameters."""
        return jnp.float64 if self.dtype == jnp.float64 else jnp.float32


def right(part: Part) -> None:
    """The part of this name."""
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    worst: dict[str, float] = {}
    for name in list(FAMILIES)[: 3 if part.tiny else None]:
        found = part.attempt(name, _family, part, name, cpu, device) or {}
        for goal, value in found.items():
            worst[goal] = max(value, worst.get(goal, 0.0))
            part.goal(goal, worst[goal])


def _family(part: Part, name: str, cpu: jax.Device, device: jax.Device) -> dict[str, float]:
    """The goals' values of one network."""
    network = Network(name, batch=4 if part.tiny else 16)
    exact = Way(cpu, jnp.float64)
    truth = network.gradient(exact)
    known = {exact: truth}
    ways = {  # on a machine that has a CPU alone, some are the same
        "CPU, float32": Way(cpu, jnp.float32),
        "device, float64": Way(device, jnp.float64),
        "device, float32": Way(device, jnp.float32),
        "device, as runs are": Way(device, jnp.float32, Training().matmul_precision),
        "device, bfloat16": Way(device, jnp.bfloat16, "default"),
    }
    errors = {}
    for title, way in ways.items():
        other = known[way] = known[way] if way in known else network.gradient(way)
        errors[title] = [
            float(np.linalg.norm(mine - true) / np.linalg.norm(true))
            for mine, true in zip(other, truth, strict=True)
        ]
    for place, kind in enumerate(("logits", "gradients")):
        part.row(f"Error of {kind} against float64 on the CPU", network=name,
                 **{title: error[place] for title, error in errors.items()})  # fmt: skip
    mine, cpus = errors["device, float32"], errors["CPU, float32"]
    found = {
        goal: mine[place] / max(cpus[place], float(np.finfo(np.float32).eps))
        for place, goal in enumerate(("forward", "gradient"))
    }
    if name != "alexnet":  # whose ten steps take the CPU too long
        apart = network.steps_apart(cpu, device, 3 if part.tiny else STEPS)
        part.row("Steps in float64, the device and the CPU", network=name,
                 largest_difference=apart)  # fmt: skip
        found["steps"] = apart
    return found


class Network:
    """A network with its first weights and one batch."""

    def __init__(self, name: str, batch: int):
        self.shape, fields = FAMILIES[name]
        changes = {"model.name": name.partition(",")[0], "model.dropout.keep_prob": 1.0, **fields}
        self.config = resolve(override(RunConfig(), changes))
        draw = np.random.default_rng(0)
        self.batch = {
            "images": draw.integers(0, 256, (batch, *self.shape), dtype=np.uint8),
            "label": draw.integers(0, CLASSES, batch).astype(np.int32),
        }
        cpu = jax.devices("cpu")[0]
        with jax.default_device(cpu):
            module = self.module(Way(cpu, jnp.float32))
            self.first = jax.device_get(
                jax.jit(lambda key: state.initial_variables(module, self.shape, key))(
                    jax.random.key(0)
                )
            )

    def module(self, way: Way) -> Any:
        """The network as a run builds it."""
        backend = {"cuda": "gpu", "rocm": "gpu"}.get(way.where.platform, way.where.platform)
        return models.build(
            self.config.model, image_shape=self.shape, num_outputs=CLASSES, dtype=way.dtype,
            param_dtype=way.wide, operations=operations.choose(backend, "xla"),
        )  # fmt: skip

    def variables(self, way: Way) -> Any:
        """The first weights there."""
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, way.wide), self.first)
        return jax.device_put(wide, way.where)

    def gradient(self, way: Way) -> tuple[np.ndarray, np.ndarray]:
        """The logits and the gradient of the loss, each as one vector in float64."""
        module, variables = self.module(way), self.variables(way)
        rest = {name: tree for name, tree in variables.items() if name != "params"}

        def loss(params: Any, batch: Any) -> Any:
            logits, _ = module.apply(
                {"params": params, **rest}, batch["images"].astype(way.wide) / 255, train=True,
                keep_prob=1.0, rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats", "auxiliary"],
            )  # fmt: skip
            wide = logits.astype(way.wide)
            return classification.cross_entropy(wide, batch, 0.0).mean(), wide

        batch = jax.device_put(self.batch, way.where)
        with jax.default_device(way.where), jax.default_matmul_precision(way.precision):
            compiled = _quickly(
                jax.value_and_grad(loss, has_aux=True), way, variables["params"], batch
            )
            (_, logits), gradient = compiled(variables["params"], batch)
        leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(gradient)]
        return np.asarray(logits, np.float64).ravel(), np.concatenate(leaves)

    def steps_apart(self, cpu: jax.Device, device: jax.Device, steps: int) -> float:
        """The largest difference between parameters after training steps in float64 on both."""
        ends = []
        for where in (cpu, device):
            way = Way(where, jnp.float64)
            make = optim.optimizer(self.config.optimizer)
            train = step.train_step(
                self.module(way), classification.TASK, make,
                augment=augment.build(self.config.data.augmentation, self.shape, ()),
                normalize=lambda images: images.astype(jnp.float64),
            )  # fmt: skip
            with jax.default_device(where), jax.default_matmul_precision("highest"):
                current = state.create(self.variables(way), make, averaged=False)
                keys = state.keys(0)
                numbers = jax.device_put(
                    state.HParams(0.02, 1e-4, 1.0, 0.0, keys["augment"], keys["dropout"]), where
                )
                batch = jax.device_put(self.batch, where)
                compiled = _quickly(train, way, current, batch, numbers)
                for _ in range(steps):
                    current, _ = compiled(current, batch, numbers)
                ends.append([np.asarray(leaf) for leaf in jax.tree.leaves(current.params)])
        return float(max(np.abs(one - two).max() for one, two in zip(*ends, strict=True)))


def _quickly(function: Any, way: Way, *arguments: Any) -> Any:
    """A compiled function; on a CPU compiled in a hurry, which is what most of the time is for."""
    options = {"xla_backend_optimization_level": 0} if way.where.platform == "cpu" else None
    return jax.jit(function, compiler_options=options).lower(*arguments).compile()
