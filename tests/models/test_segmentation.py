"""Networks that classify every pixel."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import catalog, models
from cnnjax.config import Dropout, Model, Norm
from cnnjax.errors import UserError
from cnnjax.models.backbone import ALL_ENDPOINTS, Backbone
from cnnjax.models.segmentation import pyramid
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.upsampling import bilinear, max_unpool
from common import variables as drawn

KEY = jax.random.key(0, impl="rbg")
VGG_CONVOLUTIONS = 14_714_688


def conv(kernel, inputs, outputs, bias=True):
    """The parameters of a convolution."""
    return kernel**2 * inputs * outputs + bias * outputs


def fcn(classes):
    """Both networks but for what comes after the scores: VGG-16's convolutions, fc6 of 7x7x512,
    fc7, and the scores."""
    return VGG_CONVOLUTIONS + conv(7, 512, 4096) + conv(1, 4096, 4096) + conv(1, 4096, classes)


def unet(channels, classes):
    """Nine levels of two 3x3 convolutions; the first of a decoder's has the skip's channels too."""
    widths = [64, 128, 256, 512, 1024]
    inputs = [channels, *widths[:-1]]
    down = sum(conv(3, i, n) + conv(3, n, n) for i, n in zip(inputs, widths, strict=True))
    up = sum(conv(2, 2 * n, n) + conv(3, 2 * n, n) + conv(3, n, n) for n in widths[:-1])
    return down + up + conv(1, 64, classes)


SEGNET_CONV = conv(7, 64, 64, bias=False) + 2 * 64  # with the scale and bias of batch norm
SEGNET_ENCODER = conv(7, 3, 64, bias=False) + 2 * 64 + 3 * SEGNET_CONV
PARAMETERS = {
    # model, fields, image, classes, parameters; what is published, in millions
    "segnet_basic": ({}, (360, 480, 3), 11, SEGNET_ENCODER + 4 * SEGNET_CONV + 715, 1.425),
    "segnet_basic, bilinear": (
        {"decoder": "bilinear", "decoder_convolutions": 0}, (360, 480, 3), 11,
        SEGNET_ENCODER + 715, 0.625,
    ),
    "unet": ({}, (572, 572, 1), 2, unet(1, 2), 31.03),
    "unet of RGB": ({}, (64, 64, 3), 21, unet(3, 21), 31.03),
    "fcn32s": ({}, (500, 500, 3), 21, fcn(21) + 64**2 * 21**2, 134),
    "fcn8s": (
        {}, (500, 500, 3), 21,
        fcn(21) + conv(1, 256, 21) + conv(1, 512, 21) + (2 * 4**2 + 16**2) * 21**2, 134,
    ),
    "naive_segmentation": (
        {}, (64, 64, 3), 21, conv(3, 3, 64) + 6 * conv(3, 64, 64) + conv(1, 64, 21), None,
    ),
}  # fmt: skip


def abstract(config, shape, classes=5, **build):
    """The module, and the shapes of its variables and of its outputs for two images."""
    module = models.build(config, image_shape=shape, num_outputs=classes, per_pixel=True, **build)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    outputs, variables = jax.eval_shape(
        functools.partial(module.init_with_output, train=False), KEY, images
    )
    return module, variables, outputs


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("case", PARAMETERS)
def test_published_networks(case):
    """Parameters as published, and outputs as large as the image."""
    fields, shape, classes, expected, millions = PARAMETERS[case]
    config = Model(name=case.partition(",")[0].split()[0], **fields)
    _, variables, outputs = abstract(config, shape, classes)
    assert count(variables["params"]) == expected
    if millions:
        assert expected / 1e6 == pytest.approx(millions, rel=0.02)
    assert (outputs.shape, outputs.dtype) == ((2, *shape[:2], classes), jnp.float32)


def test_every_registered_model_is_in_the_table():
    names = [case.partition(",")[0].split()[0] for case in PARAMETERS]
    assert set(names) == set(models.SEGMENTATION_MODELS) == set(catalog.SEGMENTATION_MODELS)
    assert list(models.SEGMENTATION_MODELS) == list(catalog.SEGMENTATION_MODELS)


ENCODERS = {  # with odd sides where the network allows them, and the stages of the decoder
    "lenet5": ((37, 33, 3), 2),
    "lenet5_modern": ((29, 35, 3), 2),
    "stack": ((15, 13, 3), 2),
    "alexnet": ((67, 71, 3), 4),
    "alexnet_grouped": ((67, 71, 3), 4),
    "vgg_small": ((15, 13, 3), 3),
    "vgg11_bn": ((35, 33, 3), 5),
    "inception_small": ((15, 13, 3), 2),
    "googlenet": ((35, 33, 3), 5),
    "inception_v3": ((79, 75, 3), 5),
    "resnet8": ((15, 13, 3), 2),
    "plain8": ((15, 13, 3), 2),
    "resnet18": ((35, 33, 3), 5),
    "resnet50": ((35, 33, 3), 5),
}
SMALL = {"width": 0.1, "norm": Norm(kind="batch")}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("decoder", catalog.DECODERS)
def test_every_encoder_with_every_decoder(name, decoder):
    """The outputs are exactly as large as the image, with every kind of skip."""
    shape, stages = ENCODERS[name]
    fields = {} if name == "lenet5" else SMALL
    if decoder == "max_unpool":
        fields = fields | {"pooling": "max"}
    for number, skips in enumerate(("none", "add", "concatenate")):
        values = {**fields, "decoder": decoder, "skips": skips, "decoder_convolutions": number}
        if decoder == "max_unpool" and name not in catalog.UNPOOLABLE:
            with pytest.raises(ValueError, match="max_unpool needs poolings between blocks"):
                Model(name=name, **values)
            continue
        _, variables, outputs = abstract(Model(name=name, **values), shape)
        assert outputs.shape == (2, *shape[:2], 5)
        layers = {layer for layer in variables["params"] if layer.startswith("decoder")}
        assert layers <= {f"decoder{n}" for n in range(1, stages + 1)}
        if number:
            assert len(layers) == stages


def test_small_images_of_lenet_are_cropped_out_again():
    """It pads images to 32x32."""
    _, _, outputs = abstract(Model(name="lenet5_modern"), (8, 9, 1))
    assert outputs.shape == (2, 8, 9, 5)


def test_the_levels_of_an_encoder():
    """28x28 is what is left of 32x32 after a convolution without padding, 10x10 of 14x14."""
    sizes = ((28, 28), (14, 14), (10, 10), (5, 5))
    levels = pyramid((32, 32), [jnp.zeros((1, *size, 1)) for size in sizes])
    assert [level.size for level in levels] == [(32, 32), (14, 14), (5, 5)]
    assert [level.last_size for level in levels] == [(28, 28), (10, 10), (5, 5)]
    levels = pyramid((9, 9), [jnp.zeros((1, size, size, n)) for size, n in ((5, 1), (5, 2))])
    assert [level.size for level in levels] == [(9, 9), (5, 5)]
    assert levels[0].last is None
    assert levels[1].last.shape[-1] == 2


@pytest.mark.parametrize("name", ["vgg_small", "resnet8", "lenet5_modern", "inception_small"])
def test_the_encoder_is_that_of_classification(name):
    """The same paths and shapes but for the layers after the maps, and with the same weights the
    same maps."""
    shape = (16, 16, 1)
    whole = models.build(Model(name=name, width=0.2), image_shape=shape, num_outputs=3)
    network = models.build(
        Model(name=name, width=0.2, skips="add"), image_shape=shape, num_outputs=3, per_pixel=True
    )
    known, variables = drawn(whole, shape), drawn(network, shape)
    shared = {
        kind: {layer: known[kind][layer] for layer in tree if not layer.startswith(("dec", "head"))}
        for kind, tree in variables.items()
    }
    assert shared["params"]
    merged = {kind: {**tree, **shared[kind]} for kind, tree in variables.items()}
    assert jax.tree.map(np.shape, merged) == jax.tree.map(np.shape, variables)
    images = jax.random.normal(KEY, (2, *shape))
    _, expected = whole.apply(known, images, train=False, capture=ALL_ENDPOINTS)
    _, features = network.apply(merged, images, train=False, capture=ALL_ENDPOINTS)
    names = [key for key in expected if key in features]
    assert len(names) >= 4
    for key in names:
        np.testing.assert_allclose(features[key], expected[key], atol=1e-5)


def test_the_weights_of_vgg_16_serve_as_those_of_a_fully_convolutional_network():
    """In the middle of maps of 7x7, the hidden layers see what the dense ones see."""
    fields = {"width": 0.02, "hidden": (16, 8)}
    shape = (224, 224, 3)
    whole = models.build(Model(name="vgg16", **fields), image_shape=shape, num_outputs=3)
    network = models.build(
        Model(name="fcn8s", **fields), image_shape=shape, num_outputs=3, per_pixel=True
    )
    known, variables = drawn(whole, shape)["params"], drawn(network, shape)["params"]
    own = {layer: tree for layer, tree in known.items() if layer != "head"}
    assert jax.tree.map(np.shape, own) == {
        layer: jax.tree.map(np.shape, variables[layer]) for layer in own
    }
    assert set(variables) - set(own) == {
        "head", "skip1", "skip2", "decoder1", "decoder2", "decoder3",
    }  # fmt: skip
    images = jax.random.normal(KEY, (1, *shape))
    run = functools.partial(jax.jit, static_argnames=("train", "capture"))
    names = ("pool5", "fc1", "fc2")
    _, expected = run(whole.apply)({"params": known}, images, train=False, capture=names)
    merged = {"params": variables | own}
    _, features = run(network.apply)(merged, images, train=False, capture=names)
    np.testing.assert_allclose(features["pool5"], expected["pool5"], atol=1e-5)
    for name in ("fc1", "fc2"):
        np.testing.assert_allclose(features[name][:, 3, 3], expected[name], atol=1e-5)


@pytest.mark.parametrize("decoder", catalog.DECODERS)
def test_gradients_reach_every_parameter_and_statistics_move_in_training(decoder):
    config = Model(
        name="vgg_small", width=0.1, decoder=decoder, skips="add", decoder_convolutions=2,
        dropout=Dropout(keep_prob=0.5),
    )  # fmt: skip
    shape = (11, 9, 1)
    module = models.build(config, image_shape=shape, num_outputs=3, per_pixel=True)
    images = jax.random.normal(KEY, (2, *shape))
    variables = drawn(module, shape)

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, train, key):
        outputs, state = module.apply(
            variables | {"params": params}, images, train=train, keep_prob=0.7,
            rngs={"dropout": key}, mutable=["batch_stats"],
        )  # fmt: skip
        weights = jnp.cos(jnp.arange(float(outputs.size))).reshape(outputs.shape)
        return (weights * outputs).sum(), (outputs, state["batch_stats"])

    one, two = jax.random.key(1), jax.random.key(2)
    gradient, (outputs, stats) = jax.grad(run, has_aux=True)(variables["params"], True, one)
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    zero = [jax.tree_util.keystr(path) for path, leaf in leaves if not leaf.any()]
    assert not zero
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), stats, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    assert (run(variables["params"], True, two)[1][0] != outputs).any()
    first, second = (run(variables["params"], False, key)[1] for key in (one, two))
    assert (first[0] == second[0]).all()
    jax.tree.map(np.testing.assert_array_equal, first[1], variables["batch_stats"])


def test_unpooling_is_paired_with_the_poolings_of_the_encoder():
    """The values of the coarsest maps are where the maxima of conv3_2, conv2_2 and conv1_2 were."""
    config = Model(
        name="vgg_small", width=0.1, decoder="max_unpool", decoder_convolutions=0,
        norm=Norm(kind="none"),
    )  # fmt: skip
    shape = (11, 9, 1)
    module = models.build(config, image_shape=shape, num_outputs=3, per_pixel=True)
    variables = drawn(module, shape)
    images = jax.random.normal(KEY, (2, *shape))
    outputs, features = module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)
    x, params = features["pool3"], variables["params"]
    for number, paired in enumerate(("conv3_2", "conv2_2", "conv1_2"), start=1):
        if number > 1:
            projection = params[f"decoder{number}"]["project"]
            x = x @ projection["kernel"][0, 0] + projection["bias"]
        x = max_unpool(x, features[paired])
        np.testing.assert_allclose(x, features[f"decoder{number}"], atol=1e-5)
    head = params["head"]
    np.testing.assert_allclose(outputs, x @ head["kernel"][0, 0] + head["bias"], atol=1e-5)
    np.testing.assert_array_equal(features["pool3"], max_unpooled_again(features))


def max_unpooled_again(features):
    """Unpooling the pooled values gives them back when pooled at the same places."""
    unpooled = max_unpool(features["pool3"], features["conv3_2"])
    _, pullback = jax.vjp(lambda y: max_unpool(y, features["conv3_2"]), features["pool3"])
    return pullback(unpooled)[0]


def test_a_stage_by_hand():
    """Bilinear, the encoder's maps added, a convolution; pixels stay at their place."""
    config = Model(name="lenet5_modern", skips="concatenate", decoder_convolutions=0)
    shape = (32, 32, 1)
    module = models.build(config, image_shape=shape, num_outputs=2, per_pixel=True)
    variables = drawn(module, shape)
    images = jax.random.normal(KEY, (1, *shape))
    outputs, features = module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)
    first = jnp.concatenate([bilinear(features["pool2"], (10, 10)), features["conv2"]], -1)
    np.testing.assert_allclose(features["decoder1"], first, atol=1e-6)
    padded = jnp.pad(first, ((0, 0), (2, 2), (2, 2), (0, 0)))
    second = jnp.concatenate([bilinear(padded, (28, 28)), features["conv1"]], -1)
    np.testing.assert_allclose(features["decoder2"], second, atol=1e-6)
    head = variables["params"]["head"]
    np.testing.assert_allclose(
        outputs[:, 2:-2, 2:-2], second @ head["kernel"][0, 0] + head["bias"], atol=1e-5
    )


def test_layers_of_a_stage():
    fields = {"name": "resnet8", "skips": "add", "decoder_convolutions": 2, "decoder": "transposed"}
    _, variables, _ = abstract(Model(**fields, transposed_kernel=3), (16, 16, 3))
    first = variables["params"]["decoder1"]
    assert {name: jax.tree.leaves(tree)[-1].shape for name, tree in first.items()} == {
        "upsample": (3, 3, 64, 32),
        "conv1": (32,),
        "conv2": (32,),
    }
    _, variables, _ = abstract(Model(**(fields | {"decoder": "nearest"})), (16, 16, 3))
    assert variables["params"]["decoder1"]["skip"]["kernel"].shape == (1, 1, 32, 64)
    kernel = variables["params"]["decoder1"]["conv1"]["conv"]["kernel"]
    assert kernel.shape == (3, 3, 64, 32)


def test_a_transposed_convolution_may_start_as_interpolation():
    config = Model(
        name="stack", decoder="transposed", transposed_init="bilinear", decoder_convolutions=0,
    )  # fmt: skip
    module = models.build(config, image_shape=(8, 8, 1), num_outputs=2, per_pixel=True)
    images = jnp.zeros((1, 8, 8, 1))
    params = jax.jit(functools.partial(module.init, train=False))(KEY, images)["params"]
    weights = params["decoder1"]["upsample"]["kernel"]
    np.testing.assert_allclose(weights[:, 1, 0, 0], np.array([1, 3, 3, 1]) / 4 * 0.75 / 2)


def test_remat_and_scan_change_no_outputs():
    shape = (16, 16, 1)
    images = jax.random.normal(KEY, (2, *shape))
    results = []
    for fields in ({}, {"remat": True}, {"scan": True}):
        config = Model(name="resnet20", width=0.2, skips="add", **fields)
        module = models.build(config, image_shape=shape, num_outputs=3, per_pixel=True)
        variables = drawn(module, shape)
        results.append(jax.jit(functools.partial(module.apply, train=False))(variables, images))
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=1e-5)


class Sum(nn.Module):
    """A decoder of the user's own: the channel means of all maps, at the size of the last."""

    ingredients: object

    @nn.compact
    def __call__(self, x, skips, train):
        size = skips[-1].shape[1:3]
        maps = [bilinear(y, size).mean(-1, keepdims=True) for y in (x, *skips)]
        return self.ingredients.conv(4, 1, name="mix")(sum(maps)) + train


def levels(decoder):
    return {"decoder": {"sum": decoder}}


@pytest.mark.parametrize("level", [Sum, lambda make: Sum(make)])
def test_a_decoder_of_the_users_own(level):
    context = {"levels": levels(level)}
    config = Model.model_validate({"name": "resnet18", "decoder": "sum"}, context=context)
    _, variables, outputs = abstract(config, (33, 35, 3), levels=levels(level))
    assert outputs.shape == (2, 33, 35, 5)
    assert set(variables["params"]["decoder"]) == {"mix"}
    with pytest.raises(TypeError, match=r"decoder level: 5 is not a flax\.linen module"):
        abstract(config, (33, 35, 3), levels=levels(lambda make: 5))


class Flattening(nn.Module):
    ingredients: Any

    def __call__(self, x, skips):
        return x.mean((1, 2))


def test_a_decoder_that_returns_no_maps():
    context = {"levels": levels(Flattening)}
    config = Model.model_validate({"name": "resnet18", "decoder": "sum"}, context=context)
    with pytest.raises(ValueError, match=r"Flattening returns \[2, 512\]; allowed: maps \[B, h, w"):
        abstract(config, (33, 35, 3), levels=levels(Flattening))


class Pixels(nn.Module):
    outputs: int = 5

    @nn.compact
    def __call__(self, x):
        return nn.Conv(self.outputs, (1, 1), name="out")(x)


class Halving(Backbone):
    def maps(self, x, forward):
        make = self.ingredients
        x = forward(ConvBlock(make, 4, name="conv1"), x)
        return forward(ConvBlock(make, 8, strides=2, name="conv2"), x)


class Vector(Backbone):
    @nn.compact
    def features(self, x, forward):
        return x.mean((1, 2))


def test_networks_and_heads_of_the_users_own():
    own = {
        "pixels": Pixels(),
        "halving": lambda make, num_classes, shape: Halving(make),
        "vector": lambda make, num_classes, shape: Vector(make),
    }
    user_levels = {"model": own}

    def config(name, **fields):
        values = {"name": name, **fields}
        return Model.model_validate(values, context={"levels": user_levels})

    build = functools.partial(abstract, shape=(7, 9, 3), levels=user_levels)
    assert build(config("pixels"))[2].shape == (2, 7, 9, 5)
    _, variables, outputs = build(config("halving"), head=Pixels())
    assert outputs.shape == (2, 7, 9, 5)
    assert set(variables["params"]) == {"conv1", "conv2", "decoder1", "head"}
    assert set(variables["params"]["head"]) == {"out"}
    with pytest.raises(UserError, match=r"model\.name: vector gives a vector for an image"):
        build(config("vector"))
    message = "model.decoder: max_unpool has no pooling to undo where halving makes maps of 7x9"
    with pytest.raises(UserError, match=message):
        build(config("halving", decoder="max_unpool"))


def test_a_network_for_pixels_needs_a_task_for_pixels():
    with pytest.raises(UserError, match=r"model\.name: unet classifies pixels"):
        models.build(Model(name="unet"), image_shape=(32, 32, 1), num_outputs=2)
    with pytest.raises(TypeError, match="'fcn8s' has a head of its own"):
        abstract(Model(name="fcn8s"), (32, 32, 3), head=Pixels())
    with pytest.raises(UserError, match=r"15x40 is too small for model\.name=segnet_basic.* 16"):
        abstract(Model(name="segnet_basic"), (15, 40, 3))


def test_endpoints_of_a_network_by_name():
    shapes = models.describe("unet")
    assert shapes["conv5_2"] == (35, 35, 1024)
    assert shapes["decoder4"] == (572, 572, 64)
    assert models.describe("fcn32s", (64, 64, 3))["decoder1"] == (64, 64, 21)
