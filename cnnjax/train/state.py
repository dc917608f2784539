"""The state of training: arrays only."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from cnnjax.train.groups import NO_GROUPS, Groups
from cnnjax.train.optim import MakeOptimizer


@flax.struct.dataclass
class Ema:
    """Exponential moving averages of the parameters and of the running statistics."""

    params: Any
    batch_stats: Any


@flax.struct.dataclass
class TrainState:
    """What a step updates. `ema` is None without averaging."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Ema | None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to evaluate with: the averages where there are any."""
        source = self if self.ema is None else self.ema
        return {"params": source.params, "batch_stats": source.batch_stats}


@flax.struct.dataclass
class HParams:
    """The traced numbers that studies vary, as scalars, and the random keys of a run.

    Runs that differ only in these share one compiled step, which folds its step number into the
    keys. `group_rates` has the learning-rate multiplier of each parameter group.
    """

    learning_rate: ArrayLike
    weight_decay: ArrayLike
    keep_prob: ArrayLike
    label_smoothing: ArrayLike
    augment_key: jax.Array
    dropout_key: jax.Array
    group_rates: tuple[ArrayLike, ...] = ()


def keys(seed: int) -> dict[str, jax.Array]:
    """The run's named keys: params, augment, dropout. (`order` is drawn on the host, by data.)"""
    return _keys(np.uint32(seed))


@jax.jit
def _keys(seed: jax.Array) -> dict[str, jax.Array]:
    root = jax.random.key(seed)
    names = ("params", "augment", "dropout")
    return {
        name: jax.random.fold_in(root, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
        for name in names
    }


def create(
    variables: Any, make_optimizer: MakeOptimizer, *, averaged: bool, groups: Groups = NO_GROUPS
) -> TrainState:
    """Returns the state before the first step, from the initial variables of the network. The
    optimizer has a state only for parameters that `groups` do not freeze."""
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=make_optimizer(0.0, 0.0).init(groups.split(params)[0]),
        ema=Ema(*jax.tree.map(jnp.copy, (params, batch_stats))) if averaged else None,
    )


def initial_variables(module: nn.Module, image_shape: tuple[int, int, int], key: jax.Array) -> Any:
    """Fresh variables of a module for images [H, W, C], drawn from `key`."""
    return module.init(key, jnp.zeros((2, *image_shape), jnp.float32), train=False)


def check_outputs(
    module: nn.Module,
    variables: Any,
    image_shape: tuple[int, int, int],
    output_shape: Any,
    *,
    train: bool,
) -> None:
    """Traces a network with two images [H, W, C].

    Args:
      module: the network.
      variables: its variables, or their shapes.
      image_shape: (height, width, channels).
      output_shape: the shape of the outputs for an image that the task needs, or {name: shape}.
      train: whether it is traced as in training.

    Raises ValueError where the network has no parameters or does not return floats of that shape,
    and whatever it raises itself.
    """

    def run(variables: Any, key: jax.Array) -> Any:
        images, keep_prob = jnp.zeros((2, *image_shape), jnp.float32), jnp.float32(1.0)
        rngs, mutable = {"dropout": key}, ["batch_stats", "auxiliary"]
        return module.apply(
            variables, images, train=train, keep_prob=keep_prob, rngs=rngs, mutable=mutable
        )[0]

    if not variables.get("params"):
        raise ValueError("the network has no parameters, so there is nothing to train")
    outputs = jax.eval_shape(run, variables, jax.eval_shape(lambda: jax.random.key(0)))
    given, needed = _describe(outputs), _describe(batched(output_shape, 2))
    if given != needed:
        raise ValueError(f"the network gives {given} for two images; its task asks for {needed}")


def batched(output_shape: Any, count: int) -> Any:
    """The outputs for `count` images as `jax.ShapeDtypeStruct`s; `output_shape`: of one image, or
    {name: shape}."""
    if isinstance(output_shape, Mapping):
        return {name: batched(shape, count) for name, shape in output_shape.items()}
    return jax.ShapeDtypeStruct((count, *output_shape), jnp.float32)


def _describe(outputs: Any) -> str:
    """Outputs as text: `float[2, 10]`, `{label: float[2, 10], box: float[2, 4]}`."""
    if isinstance(outputs, Mapping):
        parts = (f"{name}: {_describe(value)}" for name, value in sorted(outputs.items()))
        return f"{{{', '.join(parts)}}}"
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        return f"a {type(outputs).__name__}"
    floating = jnp.issubdtype(outputs.dtype, jnp.floating)
    return f"{'float' if floating else outputs.dtype}{list(outputs.shape)}"


def flat(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by path (`conv1/kernel`), sorted by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return dict(sorted(named.items()))


def digest(params: Any) -> str:
    """SHA-256 over path, dtype, shape and bytes of every parameter, in the order of the paths."""
    sha = hashlib.sha256()
    for part in _content(params):
        sha.update(part)
    return sha.hexdigest()


def checksum(tree: Any) -> int:
    """CRC-32 over the same: faster, and enough to detect accidental changes."""
    crc = 0
    for part in _content(tree):
        crc = zlib.crc32(part, crc)
    return crc


def _content(tree: Any) -> Iterator[bytes | memoryview]:
    for path, leaf in flat(tree).items():
        array = np.asarray(leaf)
        yield f"{path} {array.dtype} {array.shape}\n".encode()
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
