"""What is particular to one architecture, by hand."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis import layers
from cnnjax.config import Dropout, Model, Norm
from cnnjax.models.lenet import C3_CONNECTIONS, negative_distances, pad_to, rbf_codes
from cnnjax.models.resnet import Block, option_a
from cnnjax.nn import dropout as dropout_layers
from cnnjax.nn import ingredients


def shapes(config, image_shape, classes=10):
    module = models.build(config, image_shape=image_shape, num_outputs=classes)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(
        functools.partial(module.init, train=False), jax.random.key(0, impl="rbg"), images
    )


def test_lenet5_layer_by_layer():
    params = shapes(Model(name="lenet5"), (28, 28, 1))["params"]
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(params[name])) for name in params}
    assert counts == {
        "conv1": 156,
        "pool1": 12,
        "conv2": 1_516,
        "pool2": 32,
        "conv3": 48_120,
        "fc1": 10_164,
    }


def test_table_i_of_the_lenet_paper():
    rows = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    assert ["".join("X" if i in row else "." for row in C3_CONNECTIONS) for i in range(6)] == rows


def test_the_codes_of_the_output_units():
    codes = rbf_codes(10)
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    one = codes[1].reshape(12, 7)
    assert one[-1].tolist() == [-1, 1, 1, 1, 1, 1, -1]
    assert one[6].tolist() == [-1, -1, -1, 1, -1, -1, -1]
    differing = (codes[:, None] != codes).sum(-1)
    assert differing[~np.eye(10, dtype=bool)].min() >= 10
    others = rbf_codes(47)
    assert others.shape == (47, 84)
    assert len(np.unique(others, axis=0)) == 47
    np.testing.assert_array_equal(others, rbf_codes(47))


def test_the_logits_are_negative_distances():
    x = np.random.default_rng(0).normal(size=(3, 84)).astype(np.float32)
    codes = rbf_codes(10)
    expected = -((x[:, None] - codes) ** 2).sum(-1)
    np.testing.assert_allclose(negative_distances(jnp.asarray(x), codes), expected, rtol=1e-5)
    assert negative_distances(jnp.asarray(codes), codes).argmax(1).tolist() == list(range(10))


def test_padding_is_centred():
    x = jnp.ones((1, 28, 33, 1))
    y = pad_to(x, 32)
    assert y.shape == (1, 32, 33, 1)
    assert y[0, :, 0, 0].tolist() == [0, 0, *[1] * 28, 0, 0]
    assert pad_to(jnp.ones((1, 29, 32, 1)), 32)[0, :, 0, 0].tolist() == [0, *[1] * 29, 0, 0]


def test_the_shortcut_without_parameters():
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    y = option_a(x, jnp.zeros((1, 2, 2, 4)))
    assert y[0, 0, 0].tolist() == [0, 0, 1, 0]
    assert y[0, 0, 1].tolist() == [0, 4, 5, 0]
    assert y[0, 1, 0].tolist() == [0, 16, 17, 0]
    assert y[0, 1, 1].tolist() == [0, 20, 21, 0]
    assert option_a(x, x).tolist() == x.tolist()
    odd = jnp.arange(9.0).reshape(1, 3, 3, 1)  # a pooling leaves one pixel, a stride four
    assert option_a(odd, jnp.zeros((1, 1, 1, 1))).tolist() == [[[[0]]]]
    assert option_a(odd, jnp.zeros((1, 2, 2, 1)))[0, :, :, 0].tolist() == [[0, 2], [6, 8]]


EPSILON = 0.5


def convolve(x, params):
    y = jax.lax.conv_general_dilated(
        x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + params.get("bias", 0)


def normalise(x, params):
    return params["scale"] * x / np.sqrt(1 + EPSILON) + params["bias"]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("placement", ["before", "after"])
def test_the_order_in_a_block(placement, residual):
    norm = Norm(kind="batch", placement=placement, epsilon=EPSILON)
    block = Block(
        ingredients.build(Model(name="resnet20", norm=norm)),
        features=3,
        downsample=False,
        bottleneck=False,
        residual=residual,
        pooled=True,
    )

    @jax.jit
    def both(x):
        run = functools.partial(block.apply, train=False, keep_prob=None)
        variables = block.init(jax.random.key(0, impl="rbg"), x, train=False, keep_prob=None)
        leaves, tree = jax.tree.flatten(variables["params"])
        keys = jax.random.split(jax.random.key(1, impl="rbg"), len(leaves))
        leaves = [jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
        params = jax.tree.unflatten(tree, leaves)
        first, second = params["conv1"], params["conv2"]
        y = convolve(x, first["conv"])
        if placement == "before":
            y = jax.nn.relu(normalise(y, first["norm"]))
        else:
            y = normalise(jax.nn.relu(y), first["norm"])
        y = normalise(convolve(y, second["conv"]), second["norm"])
        expected = jax.nn.relu(y + x if residual else y)
        return run(variables | {"params": params}, x), expected

    ours, expected = both(jax.random.normal(jax.random.key(2, impl="rbg"), (2, 4, 4, 3)))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("norm", "bias"), [("none", True), ("batch", False), ("group", True)])
def test_convolutions_have_a_bias_unless_batch_norm_follows(norm, bias):
    params = shapes(Model(name="resnet20", norm=Norm(kind=norm)), (8, 8, 3))["params"]
    for conv in ("conv1", "conv2"):
        assert ("bias" in params["stage2_block1"][conv]["conv"]) == bias


def test_no_pooling_keeps_the_size():
    dense = shapes(Model(name="vgg_small", pooling="none"), (8, 8, 1))["params"]["fc1"]["dense"]
    assert dense["kernel"].shape == (8 * 8 * 128, 128)


@pytest.mark.parametrize("hidden", [(), (7,), (5, 6, 7)])
def test_the_hidden_layers_of_the_perceptron(hidden):
    params = shapes(Model(name="mlp", hidden=hidden, pooling="max"), (5, 4, 2), 3)["params"]
    layers = [params[f"fc{i + 1}"]["dense"]["kernel"].shape for i in range(len(hidden))]
    layers.append(params["head"]["kernel"].shape)
    sizes = [2 * 2 * 2, *hidden, 3]
    assert layers == list(itertools.pairwise(sizes))
    assert len(params) == len(hidden) + 1


@pytest.mark.parametrize(
    ("name", "plain", "spatial"),
    [
        ("mlp", {"dropout1", "dropout2"}, {"dropout1", "dropout2"}),
        ("lenet5", {"conv3_dropout", "fc1_dropout"}, {"pool1_dropout", "pool2_dropout"}),
        ("lenet5_modern", {"fc1_dropout", "fc2_dropout"}, {"pool1_dropout", "pool2_dropout"}),
        ("vgg_small", {"fc1_dropout"}, {f"pool{i}_dropout" for i in (1, 2, 3)}),
    ],
)
def test_where_dropout_sits(name, plain, spatial):
    for kind, expected in (("plain", plain), ("spatial", spatial)):
        config = Model(name=name, dropout=Dropout(keep_prob=0.5, kind=kind))
        module = models.build(config, image_shape=(8, 8, 1), num_outputs=2)
        run = functools.partial(module.init_with_output, train=False, capture_intermediates=_drops)
        run = functools.partial(run, mutable=True)
        _, state = jax.eval_shape(run, jax.random.key(0, impl="rbg"), jnp.zeros((1, 8, 8, 1)))
        names = set(state["intermediates"])
        assert names == expected


def _drops(layer, method):
    return isinstance(layer, dropout_layers.Dropout) and layer.keep_prob < 1


@pytest.mark.parametrize(
    ("depth", "expected"), [(2, (1, 0, 0)), (4, (1, 1, 1)), (14, (5, 4, 4)), (30, (10, 10, 9))]
)
def test_a_stack_has_as_many_weighted_layers_as_asked(depth, expected):
    params = shapes(Model(name="stack", depth=depth), (8, 8, 3))["params"]
    assert len(params) == depth
    widths = [params[f"conv{n}"]["conv"]["kernel"].shape[-1] for n in range(1, depth)]
    assert tuple(widths.count(width) for width in (16, 32, 64)) == expected


def test_forms_of_a_layer_of_the_stack_see_the_same_with_fewer_weights():
    def weights(kernel):
        params = shapes(Model(name="stack", depth=5, kernel=kernel), (16, 16, 1))["params"]
        second = [block for name, block in params.items() if name.startswith("conv2")]
        return sum(math.prod(block["conv"]["kernel"].shape[:2]) for block in second)

    forms = ("5x5", "two_3x3", "two_1x3_3x1", "3x3", "1x3_3x1")
    assert [weights(form) for form in forms] == [25, 18, 12, 9, 6]
    fields = {form: Model(name="stack", depth=4, kernel=form) for form in forms}
    sees = {}
    for form, fielded in fields.items():
        module = models.build(fielded, image_shape=(32, 32, 3), num_outputs=10)
        convolutions = [
            layer for layer in layers.layers(module, (32, 32, 3)) if layer.kind == "convolution"
        ]
        sees[form] = convolutions[-1].receptive_field["size"]
    assert sees["5x5"] == sees["two_3x3"] == sees["two_1x3_3x1"]
    assert sees["3x3"] == sees["1x3_3x1"]
