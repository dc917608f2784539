"""Every experiment is built and takes a training step: all arms abstractly, one for real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from cnnjax import models
from cnnjax.config import override
from cnnjax.data import augment
from cnnjax.tasks import classification
from cnnjax.train import loop, optim, state, step

SHAPES = {
    "digits": (8, 8, 1),
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
    shape = SHAPES[config.data.name]
    shape = (size, size, shape[2]) if size else shape
    module = models.build(config.model, image_shape=shape, num_outputs=10)
    make = optim.optimizer(config.optimizer)
    train = step.train_step(
        module,
        classification.TASK,
        make,
        augment=augment.build(config.data.augmentation, shape),
        normalize=lambda x: x,
        ema_decay=config.training.ema_decay,
    )

    def once(key):
        variables = state.initial_variables(module, shape, key)
        before = state.create(variables, make, averaged=False)
        batch = {"images": jnp.zeros((4, *shape), jnp.uint8), "label": jnp.zeros(4, jnp.int32)}
        numbers = state.HParams(0.1, 0.0, 0.5, 0.0, key, key)
        return before, train(before, batch, numbers)

    return jax.eval_shape(once, jax.random.key(0))


@pytest.mark.parametrize("name", experiments.names())
def test_every_arm_takes_a_step_that_keeps_the_states_shape(name):
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
    few = {
        "data.name": "digits",
        "data.image_size": 16,
        "training.steps": 2,
        "training.batch_size": 16,
        "data.train_examples": 100,
        "evaluation.every_epochs": 1,
    }
    result = loop.run(session, override(config, few), 0, tmp_path)
    assert result.status == "finished"
    assert np.isfinite(result.test.get("loss"))
