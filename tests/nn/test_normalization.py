import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Model, Norm
from cnnjax.nn import ingredients
from cnnjax.nn.blocks import ConvBlock, DenseBlock
from cnnjax.nn.normalization import NORMS


class Layer(nn.Module):
    config: Norm
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train):
        make = ingredients.build(Model(norm=self.config), axis_name=self.axis_name)
        return make.norm("norm", train=train)(x)


def run(config, x, *, train=True, stats=None, axis_name=None):
    layer = Layer(config, axis_name)
    variables = layer.init(jax.random.key(0, impl="rbg"), x, train=False)
    if stats is not None:
        variables |= {"batch_stats": {"norm": stats}}
    y, state = layer.apply(variables, x, train=train, mutable=["batch_stats"])
    return y, state.get("batch_stats", {}).get("norm")


COLUMN = jnp.array([[1.0], [3.0], [5.0], [7.0]])  # mean 4, variance 5


def test_alpha_is_the_weight_of_the_batch():
    y, stats = run(Norm(kind="batch", alpha=0.3, epsilon=1.0), COLUMN)
    np.testing.assert_allclose(y[:, 0], np.array([-3, -1, 1, 3]) / np.sqrt(6), rtol=1e-5)
    assert float(stats["mean"][0]) == pytest.approx(0.3 * 4)
    assert float(stats["var"][0]) == pytest.approx(0.3 * 5 + 0.7 * 1)


STATS = {"mean": jnp.array([1.0]), "var": jnp.array([3.0])}


@pytest.mark.parametrize(("frozen", "train"), [(True, True), (True, False), (False, False)])
def test_running_statistics_are_used_and_unchanged(frozen, train):
    config = Norm(kind="batch", epsilon=1.0, frozen=frozen)
    y, stats = run(config, COLUMN, train=train, stats=STATS)
    np.testing.assert_allclose(y[:, 0], [0.0, 1.0, 2.0, 3.0], rtol=1e-6)
    assert stats["mean"].tolist() == [1.0]
    assert stats["var"].tolist() == [3.0]


@pytest.mark.parametrize(("statistics", "first"), [("global", 4.0), ("per_device", 2.0)])
def test_statistics_over_devices(statistics, first):
    config = Norm(kind="batch", alpha=1.0, statistics=statistics)
    halves = COLUMN.reshape(2, 2, 1)
    variables = Layer(config).init(jax.random.key(0, impl="rbg"), COLUMN, train=False)

    def device(x):
        layer = Layer(config, axis_name="devices")
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])[1]

    stats = jax.vmap(device, axis_name="devices")(halves)["batch_stats"]["norm"]
    assert float(stats["mean"][0, 0]) == pytest.approx(first)


def test_none_has_no_variables():
    x = jnp.ones((2, 3))
    assert Layer(Norm(kind="none")).init(jax.random.key(0, impl="rbg"), x, train=True) == {}
    assert run(Norm(kind="none"), x)[0].tolist() == x.tolist()


def reference_groups(x, groups, epsilon):
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height, width, groups, channels // groups)
    mean = parts.mean((1, 2, 4), keepdims=True)
    variance = parts.var((1, 2, 4), keepdims=True)
    return ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)


@pytest.mark.parametrize(
    ("kind", "configured", "used"),
    [("layer", 8, 1), ("group", 3, 3), ("group", 4, 2), ("group", 5, 1)],
)
def test_layer_and_group(kind, configured, used):
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 6)).astype(np.float32)
    y, _ = run(Norm(kind=kind, groups=configured, epsilon=0.5), jnp.asarray(x))
    np.testing.assert_allclose(y, reference_groups(x, used, 0.5), atol=1e-4)


def test_a_vector_is_not_normalised_value_by_value():
    y, _ = run(Norm(kind="group", groups=4), jnp.array([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(y[0], np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25), atol=1e-4)


def block(block_class, placement, **fields):
    norm = Norm(kind="batch", placement=placement, alpha=1.0)
    make = ingredients.build(
        Model(activation="relu", initializer="he_normal", norm=norm, pooling="max")
    )
    return block_class(make, 4, **fields)


def trained(module):
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    return lambda params, x: jax.device_get(apply({"params": params}, x))


@pytest.mark.parametrize(("block_class", "layer"), [(ConvBlock, "conv"), (DenseBlock, "dense")])
def test_placement(block_class, layer):
    x = jax.random.normal(
        jax.random.key(0, impl="rbg"), (8, 3, 3, 2) if layer == "conv" else (8, 5)
    )
    before, after = block(block_class, "before"), block(block_class, "after")
    params = before.init(jax.random.key(1, impl="rbg"), x, train=False)["params"]
    assert "bias" not in params[layer]
    assert "bias" in after.init(jax.random.key(1, impl="rbg"), x, train=False)["params"][layer]

    y, state = trained(before)(params, x)
    assert float(y.min()) == 0
    params[layer]["bias"] = jnp.zeros(4)
    z, _ = trained(after)(params, x)
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(z.mean(axes), np.zeros(4), atol=1e-5)
    assert float(z.min()) < 0

    linear = nn.Conv(4, (3, 3)) if layer == "conv" else nn.Dense(4)
    w = np.asarray(linear.apply({"params": params[layer]}, x))
    np.testing.assert_allclose(state["batch_stats"]["norm"]["mean"], w.mean(axes), atol=1e-5)
    expected = np.maximum((w - w.mean(axes)) / np.sqrt(w.var(axes) + 1e-5), 0)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    r = np.maximum(w, 0)
    expected = (r - r.mean(axes)) / np.sqrt(r.var(axes) + 1e-5)
    np.testing.assert_allclose(z, expected, atol=1e-4)


def test_without_activation_the_norm_follows_the_convolution():
    x = jnp.zeros((1, 3, 3, 2))
    module = block(ConvBlock, "after", activate=False)
    assert (
        "bias" not in module.init(jax.random.key(1, impl="rbg"), x, train=False)["params"]["conv"]
    )


def test_levels():
    assert list(NORMS) == ["none", "batch", "layer", "group"]
