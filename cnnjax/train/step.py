"""The pure train and eval steps. They receive functions and arrays, and read no configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.typing import ArrayLike

from cnnjax.data import DatasetSpec
from cnnjax.data.augment import Augment
from cnnjax.data.inputs import Batch, to_float
from cnnjax.tasks.task import Arrays, Task
from cnnjax.train.groups import NO_GROUPS, Groups, merge, with_running_statistics
from cnnjax.train.optim import MakeOptimizer
from cnnjax.train.state import Ema, HParams, TrainState, batched

StepResult = tuple[TrainState, dict[str, jax.Array]]
"""The next state, and the metrics."""
TrainStep = Callable[[TrainState, Batch, HParams], StepResult]
EvalStep = Callable[[Any, Batch, ArrayLike], dict[str, Arrays]]
PredictStep = Callable[[Any, jax.Array | np.ndarray, ArrayLike], Arrays]
Images = Callable[[jax.Array], jax.Array]


def train_step(
    module: nn.Module,
    task: Task,
    make_optimizer: MakeOptimizer,
    *,
    augment: Augment,
    normalize: Images,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    auxiliary_weight: float = 0.0,
    groups: Groups = NO_GROUPS,
) -> TrainStep:
    """Builds `step(state, batch, hparams) -> (state, metrics)`.

    Args:
      module: the network.
      task: what it is trained for.
      make_optimizer: (learning_rate, weight_decay) -> optax transformation.
      augment: (keys [B], images float [B, H, W, C] in 0..1, targets) -> (images, targets).
      normalize: images in 0..1 -> the network's inputs.
      ema_decay: decay of the exponential moving averages, or None for no averages.
      auxiliary_weight: weight of the losses of auxiliary heads, which are not in the metrics.
      groups: the parameter groups; frozen parameters are neither differentiated nor changed.
      axis_name: the mapped axis to average gradients, statistics and metrics over, under pmap.

    The batch holds `images` (uint8 [B, H, W, C]) and the targets ([B, ...]). Metrics are scalars:
    `loss` and those of the task that are means over examples, all of the augmented batch, and
    `finite`, whether the loss and the gradient are. Running statistics are averaged over devices
    at each step under pmap (Ioffe and Szegedy 2015 do not say whether they should be).
    """

    def mean(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def step(state: TrainState, batch: Batch, hparams: HParams) -> StepResult:
        count = batch["images"].shape[0]
        device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
        augment_key = jax.random.fold_in(hparams.augment_key, state.step)
        dropout_key = jax.random.fold_in(hparams.dropout_key, state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, device)
        indices = device * count + jnp.arange(count)
        example_keys = jax.vmap(jax.random.fold_in, (None, 0))(augment_key, indices)
        images = to_float(batch["images"])
        images, targets = augment(example_keys, images, _targets(task, batch))
        images = normalize(images)

        trained, frozen = groups.split(state.params)
        frozen_stats = groups.frozen_statistics(state.params, state.batch_stats)

        def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            with with_running_statistics(frozen_stats):
                outputs, updates = module.apply(
                    {"params": merge(params, frozen), "batch_stats": state.batch_stats},
                    images,
                    train=True,
                    keep_prob=hparams.keep_prob,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats", "auxiliary"],
                )

            def mean_loss(outputs: Any) -> jax.Array:
                return task.loss(outputs, targets, hparams.label_smoothing).mean()

            value = mean_loss(outputs)
            auxiliary = (sown for head in updates.get("auxiliary", {}).values() for sown in head)
            total = sum((auxiliary_weight * mean_loss(outputs) for outputs in auxiliary), value)
            return total, (value, outputs, updates.get("batch_stats", {}))

        (_, (value, outputs, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(
            trained
        )
        statistics = task.statistics(outputs, targets)
        metrics = {name: statistics[name].mean() for name in task.train_metrics} | {"loss": value}
        gradient, batch_stats, metrics = mean((gradient, batch_stats, metrics))
        batch_stats = merge(batch_stats, frozen_stats)
        metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.norm(gradient))
        transform = make_optimizer(hparams.learning_rate, hparams.weight_decay)
        updates, opt_state = transform.update(gradient, state.opt_state, trained)
        updates = groups.scaled(updates, hparams.group_rates)
        params = merge(optax.apply_updates(trained, updates), frozen)
        ema = state.ema
        if ema_decay is not None:
            ema = optax.incremental_update(Ema(params, batch_stats), ema, 1.0 - ema_decay)
            # The averages of what is frozen stay exact.
            ema = Ema(merge(ema.params, frozen), merge(ema.batch_stats, frozen_stats))
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return step


def predict_step(module: nn.Module, task: Task, *, normalize: Images) -> PredictStep:
    """Builds `step(variables, images, keep_prob)`, which returns the predictions of the task,
    {name: [B, ...]}, for images uint8 [B, H, W, C].

    `keep_prob` is the scale of classic dropout at test time.
    """

    def step(variables: Any, images: jax.Array | np.ndarray, keep_prob: ArrayLike) -> Arrays:
        inputs = normalize(to_float(images))
        return task.predictions(module.apply(variables, inputs, train=False, keep_prob=keep_prob))

    return step


def eval_step(module: nn.Module, task: Task, *, normalize: Images) -> EvalStep:
    """Builds `step(variables, batch, keep_prob)`, which returns the statistics and the predictions
    of the task, {"statistics": {name: [B, ...]}, "predictions": {name: [B, ...]}}.

    `keep_prob` is the scale of classic dropout at test time.
    """

    def step(variables: Any, batch: Batch, keep_prob: ArrayLike) -> dict[str, Arrays]:
        images = normalize(to_float(batch["images"]))
        outputs: Any = module.apply(variables, images, train=False, keep_prob=keep_prob)
        statistics = task.statistics(outputs, _targets(task, batch))
        return {"statistics": statistics, "predictions": task.predictions(outputs)}

    return step


def check_task(
    task: Task, name: str, spec: DatasetSpec, images: np.ndarray, targets: Mapping[str, np.ndarray]
) -> None:
    """Calls the functions of a task with some examples; loss and statistics are only traced.

    Args:
      task: the task.
      name: its name.
      spec: the data set.
      images: its first images, uint8 [B, H, W, C].
      targets: their targets, [B, ...] each.

    Raises ValueError where a target, the loss or a metric that is a mean does not have one value
    for each example, or `constant` does not return a number for each metric, and whatever the
    functions raise.
    """
    count = len(images)
    outputs = batched(task.output_shape(spec), count)
    targets = task.targets(images, targets)
    loss = jax.eval_shape(task.loss, outputs, targets, jnp.float32(0))
    statistics = jax.eval_shape(task.statistics, outputs, targets)
    shapes: dict[str, Any] = {
        f"targets: {key}": np.shape(values)[:1] for key, values in targets.items()
    }
    means = {f"statistics: {key}": statistics.get(key) for key in task.means}
    for label, array in {"loss": loss, **means}.items():
        shapes[label] = getattr(array, "shape", None)
    for label, shape in shapes.items():
        if shape != (count,):
            problem = "is missing" if shape is None else f"has the shape {list(shape)}"
            raise ValueError(f"task {name!r}: {label}: {problem} for {count} examples")
    constant = task.constant({key: np.asarray(values) for key, values in targets.items()})
    for metric in task.metrics:
        value = constant.get(metric.name) if isinstance(constant, Mapping) else None
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"task {name!r}: constant: has no number for {metric.name!r}")


def _targets(task: Task, batch: Batch) -> Arrays:
    """The targets of a batch, as the task derives them."""
    targets = {name: values for name, values in batch.items() if name != "images"}
    return task.targets(batch["images"], targets)
