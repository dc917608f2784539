"""Every experiment is built and takes a training step: all arms abstractly, one for real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from cnnjax import catalog, models
from cnnjax.config import override
from cnnjax.data import DatasetSpec, augment
from cnnjax.tasks import registry
from cnnjax.train import optim, state, step
from common import train_alone

SHAPES = {
    "digits": (8, 8, 1),
    "digit_boxes": (48, 48, 1),
    "digit_masks": (48, 48, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
}


def structures(loaded):
    """One configuration for each network and optimizer among the arms."""
    configs = {}
    for arm in loaded.experiment.arms:
        config = loaded.experiment.config(arm, {}, loaded.levels)
        model = override(config, {"model.dropout.keep_prob": 0.5}).model
        keep = config.model.dropout.keep_prob == 1
        configs.setdefault((model.model_dump_json(), keep, config.optimizer.name), config)
    return list(configs.values())


def abstract_step(config):
    size = config.data.image_size
    shape = SHAPES.get(config.data.name, (96, 96, 3))  # a folder
    shape = (size, size, shape[2]) if size else shape
    names = tuple("0123456789")
    targets = {
        "label": jnp.zeros(4, jnp.int32),
        "mask": jnp.zeros((4, *shape[:2]), jnp.uint8),
        "box": jnp.zeros((4, 4)),
    }
    spec = DatasetSpec(
        "x", shape, 10, names, (0.5,), (0.2,), tuple(targets), names, (9,) * 10, (99,) * 10
    )
    task = registry.find(config.task).for_run(config, spec)
    module = models.build(
        config.model,
        image_shape=shape,
        num_outputs=task.num_outputs(spec),
        per_pixel=task.per_pixel,
    )
    make = optim.optimizer(config.optimizer)
    train = step.train_step(
        module,
        task,
        make,
        augment=augment.build(config.data.augmentation, shape),
        normalize=lambda x: x,
        ema_decay=config.training.ema_decay,
    )

    def once(key):
        variables = state.initial_variables(module, shape, key)
        before = state.create(variables, make, averaged=False)
        read = {name: targets[name] for name in task.reads}
        batch = {"images": jnp.zeros((4, *shape), jnp.uint8), **read}
        numbers = state.HParams(0.1, 0.0, 0.5, 0.0, key, key)
        return before, train(before, batch, numbers)

    return jax.eval_shape(once, jax.random.key(0))


@pytest.mark.parametrize("name", experiments.names())
def test_every_arm_takes_a_step_that_keeps_the_states_shape(scene_classifier, name):
    for config in structures(experiments.load(name)):
        before, (after, metrics) = abstract_step(config)
        assert jax.tree.map(lambda leaf: leaf.shape, before) == (
            jax.tree.map(lambda leaf: leaf.shape, after)
        )
        assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", experiments.names())
def test_the_first_arm_trains_for_real(name, session, tmp_path):
    loaded = experiments.load(name)
    arm = next(iter(loaded.experiment.arms))
    config = loaded.experiment.config(arm, {}, loaded.levels)
    embedded = "digit_masks" if config.data.name.startswith("folder:") else config.data.name
    smaller = {"data.name": "digits", "data.image_size": 16}
    if embedded in catalog.SCENES:
        smaller = {"data.name": embedded, "data.image_size": None}
        smaller |= {"data.scenes.canvas_size": 32, "data.scenes.examples": 120}
    few = {
        **smaller,
        "training.steps": 2,
        "training.batch_size": 16,
        "data.train_examples": 100,
        "evaluation.every_epochs": 1,
    }
    result = train_alone(session, override(config, few), 0, tmp_path)
    assert result.status == "finished"
    assert np.isfinite(result.test.get("loss"))
