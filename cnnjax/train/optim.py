"""Optimizers and schedules, through optax.

The optimizer is built inside the compiled step from numbers that may be traced, so that runs that
differ in learning rate or weight decay share one program. The schedule is evaluated on the host
ahead of the steps, each of which receives its learning rate.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from cnnjax import config as schema
from cnnjax.train.groups import Groups

Number = ArrayLike
MakeOptimizer = Callable[[Number, Number], optax.GradientTransformation]


def decay_mask(params: Any) -> Any:
    """True for kernels, False for biases, normalisation parameters and other vectors."""
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


def optimizer(config: schema.Optimizer) -> MakeOptimizer:
    """A function (learning_rate, weight_decay) -> optax transformation; both may be traced.

    Weight decay is L2 on the gradient, before the momentum (Krizhevsky et al. 2012); `adamw`
    decouples it (Loshchilov and Hutter 2019), and `lars` puts it inside the layer's trust ratio
    (You et al. 2017). RMSProp has no momentum (Tieleman and Hinton 2012).

    Parameters are exempt from weight decay as `config.groups` say. The optimizer must be given only
    the parameters that are trained, see `cnnjax.train.groups`.
    """
    mask = _mask(config)
    momentum, epsilon = config.momentum, config.epsilon

    def lars(rate: Number, decay: Number) -> optax.GradientTransformation:
        return optax.lars(rate, decay, mask or True, momentum=momentum, trust_ratio_mask=decay_mask)

    coupled: dict[str, Callable[[Number], optax.GradientTransformation]] = {
        "sgd": optax.sgd,
        "momentum": lambda rate: optax.sgd(rate, momentum),
        "nesterov": lambda rate: optax.sgd(rate, momentum, nesterov=True),
        "rmsprop": lambda rate: optax.rmsprop(rate, config.rmsprop_decay, epsilon),
        "adam": lambda rate: optax.adam(rate, config.beta1, config.beta2, epsilon),
    }
    decoupled: dict[str, MakeOptimizer] = {
        "adamw": lambda rate, decay: optax.adamw(
            rate, config.beta1, config.beta2, epsilon, weight_decay=decay, mask=mask
        ),
        "lars": lars,
    }

    def make(learning_rate: Number, weight_decay: Number) -> optax.GradientTransformation:
        clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
        if config.name in decoupled:
            return optax.chain(*clip, decoupled[config.name](learning_rate, weight_decay))
        decay = optax.add_decayed_weights(weight_decay, mask)
        return optax.chain(*clip, decay, coupled[config.name](learning_rate))

    return make


def _mask(config: schema.Optimizer) -> Callable[[Any], Any] | None:
    """(params) -> a tree that is True where they are decayed; None where all are."""
    if all(group.decay for group in config.groups):
        return None if config.decay_all else decay_mask
    groups = Groups(config.groups)
    if config.decay_all:
        return groups.decayed
    return lambda params: jax.tree.map(operator.and_, decay_mask(params), groups.decayed(params))


def learning_rates(
    config: schema.Schedule, peak: float, total_steps: int, steps_per_epoch: float, steps: range
) -> np.ndarray:
    """Returns the learning rates of some steps of a run.

    Args:
      config: the schedule; its durations are in epochs.
      peak: the configured learning rate, reached at the end of the warm-up.
      total_steps: steps of the run.
      steps_per_epoch: steps of one pass over the training examples.
      steps: the steps, from 0.

    Returns:
      float32 [len(steps)]. The warm-up rises linearly from peak / warm-up steps.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total_steps)
    rest = max(total_steps - warmup, 1)
    boundaries = [round(epochs * steps_per_epoch) for epochs in config.boundaries_epochs]
    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(peak),
        "step": lambda: optax.piecewise_constant_schedule(
            peak, {max(step - warmup, 0): config.factor for step in boundaries}
        ),
        "exponential": lambda: optax.exponential_decay(peak, rest, max(config.factor, 1e-9)),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=config.final),
        "linear": lambda: optax.linear_schedule(peak, peak * config.factor, rest),
        "one_cycle": lambda: optax.cosine_onecycle_schedule(
            total_steps, peak, pct_start=warmup / total_steps if warmup else 0.3
        ),
    }

    @jax.jit
    def rates() -> jax.Array:
        schedule = jax.vmap(schedules[config.name]())
        step = jnp.arange(len(steps)) + steps.start
        if config.name == "one_cycle":
            return schedule(step)
        falling = schedule(jnp.maximum(step - warmup, 0))
        rising = peak * (step + 1) / max(warmup, 1)
        return jnp.broadcast_to(jnp.where(step < warmup, rising, falling), step.shape)

    return np.asarray(rates(), np.float32)
