import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from cnnjax import models
from cnnjax.config import Dropout, Model, Norm
from cnnjax.nn.convolution import Conv, SparseConv
from cnnjax.nn.lsuv import lsuv

SHAPE = (12, 12, 2)
IMAGES = 3 * jax.random.normal(jax.random.key(7, impl="rbg"), (16, *SHAPE)) + 1


def network(name, **fields):
    fields = {"initializer": "lsuv", "hidden": (9, 7) if name == "mlp" else None} | fields
    axis_name = fields.pop("axis_name", None)
    model = Model(name=name, **fields)
    module = models.build(model, image_shape=SHAPE, num_outputs=5, axis_name=axis_name)
    init = jax.jit(lambda key: module.init(key, IMAGES[:1], train=False))
    return module, init(jax.random.key(0, impl="rbg"))


@functools.cache
def measure(module):
    @jax.jit
    def run(variables):
        _, state = module.apply(
            variables,
            IMAGES,
            train=True,
            keep_prob=1.0,
            rngs={"dropout": jax.random.key(0, impl="rbg")},
            mutable=["intermediates", "batch_stats"],
            capture_intermediates=lambda m, _: isinstance(m, Conv | nn.Dense | SparseConv),
        )
        return jax.tree.map(jnp.var, state["intermediates"])

    return run


def variances(module, variables):
    """{path: variance of the output} of all linear layers."""
    flat = traverse_util.flatten_dict(measure(module)(variables))
    return {path[:-1]: float(value[0]) for path, value in flat.items()}


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_all_variances_are_one(name):
    module, variables = network(name)
    assert any(abs(v - 1) > 0.2 for v in variances(module, variables).values())
    after = variances(module, lsuv(module, variables, IMAGES, tolerance=1e-3))
    assert after == pytest.approx(dict.fromkeys(after, 1.0), abs=1e-3)
    assert len(after) == {"mlp": 3, "lenet5": 4}[name]


def test_the_output_before_pooling_is_measured():
    """With pooling before the activation and after it."""
    scaled = []
    for levels in ({}, {"activation": {"late": lambda x: jnp.maximum(x, 0)}}):
        model = Model(name="lenet5_modern", initializer="lsuv")
        model = model.model_copy(update={"activation": "late" if levels else "relu"})
        module = models.build(model, image_shape=SHAPE, num_outputs=5, levels=levels)
        variables = jax.jit(lambda m=module: m.init(jax.random.key(0), IMAGES[:1], train=False))()
        variables["params"]["conv1"]["conv"]["bias"] += 0.3
        scaled.append(lsuv(module, variables, IMAGES))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *scaled)


def test_it_is_algorithm_1_of_the_paper():
    module, variables = network("mlp", activation="tanh")
    params = dict(variables["params"])
    for path in (("fc1", "dense"), ("fc2", "dense"), ("head",)):
        for _ in range(10):
            variance = variances(module, {"params": params})[path]
            if abs(variance - 1) < 0.1:
                break
            flat = traverse_util.flatten_dict(params)
            flat[*path, "kernel"] = flat[*path, "kernel"] / np.sqrt(variance)
            params = traverse_util.unflatten_dict(flat)
    ours = lsuv(module, variables, IMAGES)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, params)


def test_within_the_tolerance_nothing_changes():
    module, variables = network("mlp")
    once = lsuv(module, variables, IMAGES)
    twice = lsuv(module, once, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    same = lsuv(module, variables, IMAGES, max_iterations=0)
    jax.tree.map(np.testing.assert_array_equal, variables, same)


def test_biases_take_more_passes():
    module, variables = network("mlp")
    for layer in ("fc1", "fc2"):
        width = variables["params"][layer]["dense"]["bias"].shape[0]
        variables["params"][layer]["dense"]["bias"] = jnp.linspace(-1, 1, width)
    once = variances(module, lsuv(module, variables, IMAGES, max_iterations=1))
    assert any(abs(v - 1) > 0.1 for v in once.values())
    after = variances(module, lsuv(module, variables, IMAGES))
    assert all(abs(v - 1) < 0.1 for v in after.values())


def test_batch_norm_dropout_and_a_pmap_axis():
    module, variables = network(
        "mlp",
        norm=Norm(kind="batch"),
        dropout=Dropout(keep_prob=0.5, scaling="classic"),
        axis_name="devices",
    )
    after = lsuv(module, variables, IMAGES, tolerance=1e-3)
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])
    alone, _ = network("mlp", norm=Norm(kind="batch"))
    measured = variances(alone, after)
    assert measured == pytest.approx(dict.fromkeys(measured, 1.0), abs=1e-3)


def test_constant_images_change_nothing():
    module, variables = network("mlp")
    after = lsuv(module, variables, jnp.zeros_like(IMAGES))
    jax.tree.map(np.testing.assert_array_equal, after, variables)
