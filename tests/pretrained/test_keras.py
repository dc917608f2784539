"""The weights of keras.applications, random ones: same logits, statistics and gradients there and
here. Keras is in the extra `dev`."""

import functools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from cnnjax import models, pretrained
from cnnjax.data import inputs
from cnnjax.pretrained import layout

keras = pytest.importorskip("keras", reason="keras is not installed (extra dev)")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZES = {"vgg16": 64, "inception_v3": 107, "resnet50": 43}
APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "inception_v3": keras.applications.InceptionV3,
    "resnet50": keras.applications.ResNet50,
}


def application(name):
    """A network of keras.applications whose weights and statistics are all random. The branches of
    residual blocks are small: otherwise rounding grows to a percent of the gradients on the way
    through fifty layers, in Keras too."""
    shape = (SIZES[name], SIZES[name], 3)
    model = APPLICATIONS[name](
        weights=None, input_shape=shape, classes=7, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
            small = 0.1 if layer.name.endswith("_3_bn") else 1
            ranges = (0.5 * small, 1.5 * small), (-0.2, 0.2), (-0.1, 0.1), (0.5, 1.5)
            for weight, (low, high) in zip(weights, ranges, strict=True):
                if weight is not None:
                    weight.assign(rng.uniform(low, high, weight.shape))
        elif hasattr(layer, "bias") and layer.bias is not None:
            layer.bias.assign(rng.uniform(-0.1, 0.1, layer.bias.shape))
    return model


@pytest.fixture(scope="module")
def published():
    """name -> application(name), each made once."""
    keras.utils.set_random_seed(0)
    return functools.cache(application)


def legacy(model, path):
    """As Keras 2 wrote the files that are published: groups named by layers."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(weight)


def converted(name, path, **changes):
    changes |= {"data.image_size": SIZES[name], "data.shorter_side": None}
    return pretrained.convert("keras", name, path, changes=changes)


def module(found, name):
    shape = (SIZES[name], SIZES[name], 3)
    return models.build(found.config.model, image_shape=shape, num_outputs=found.num_classes)


@pytest.mark.parametrize("name", ["vgg16", "inception_v3", "resnet50"])
def test_the_same_logits(name, published, tmp_path):
    there = published(name)
    there.save_weights(tmp_path / "there.weights.h5")
    found = converted(name, tmp_path / "there.weights.h5")
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZES[name], SIZES[name], 3))
    of = {
        "vgg16": keras.applications.vgg16,
        "inception_v3": keras.applications.inception_v3,
        "resnet50": keras.applications.resnet,
    }[name]
    run = jax.jit(functools.partial(there, training=False))  # quicker than layer by layer
    theirs = np.asarray(run(of.preprocess_input(pixels.astype(np.float32))))

    data = found.config.data
    normalize = inputs.normalizer(data.normalize, data.mean, data.sd, data.channel_order)
    images = normalize(inputs.to_float(pixels.astype(np.uint8)))
    ours = jax.jit(lambda v, x: module(found, name).apply(v, x, train=False))(
        found.variables, images
    )
    assert found.num_classes == 7
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("name", ["vgg16", "inception_v3", "resnet50"])
def test_legacy_files_hold_the_same(name, published, tmp_path):
    there = published(name)
    there.save_weights(tmp_path / "there.weights.h5")
    legacy(there, tmp_path / "there.h5")
    pair = [converted(name, tmp_path / file).variables for file in ("there.weights.h5", "there.h5")]
    jax.tree.map(np.testing.assert_array_equal, *pair)


def test_training_gives_the_same_statistics_and_gradients(tmp_path):
    """With a smooth activation: a ReLU whose input rounds to the other side of zero switches a unit
    on in one of the two networks alone, and the gradients of a batch of four come apart by up to
    1e-2. Softplus is positive, as the zeros that Keras pads with before its maximum require."""
    name = "resnet50"
    there = application(name)
    for layer in there.layers:
        if getattr(layer, "activation", None) is keras.activations.relu:
            layer.activation = keras.activations.softplus
    legacy(there, tmp_path / "there.h5")
    found = converted(name, tmp_path / "there.h5", **{"model.activation": "softplus"})
    ours, variables = module(found, name), found.variables
    rng = np.random.default_rng(2)
    images = jnp.asarray(rng.normal(size=(4, SIZES[name], SIZES[name], 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 7, 4))

    def mean_loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def their_loss(trainable, fixed):
        logits, fixed = there.stateless_call(trainable, fixed, images, training=True)
        return mean_loss(logits), fixed

    def our_loss(params):
        given = {**variables, "params": params}
        logits, updated = ours.apply(given, images, train=True, mutable=["batch_stats"])
        return mean_loss(logits), updated["batch_stats"]

    trainable = [weight.value for weight in there.trainable_variables]
    fixed = [weight.value for weight in there.non_trainable_variables]
    (their_value, fixed), their_grads = jax.jit(jax.value_and_grad(their_loss, has_aux=True))(
        trainable, fixed
    )
    (our_value, stats), our_grads = jax.jit(jax.value_and_grad(our_loss, has_aux=True))(
        variables["params"]
    )
    np.testing.assert_allclose(our_value, their_value, rtol=1e-5)
    after = {
        id(weight): array
        for weights, arrays in (
            (there.trainable_variables, their_grads),
            (there.non_trainable_variables, fixed),
        )
        for weight, array in zip(weights, arrays, strict=True)
    }
    by_name = {
        f"{layer.name}/{index}": weight
        for layer in there.layers
        for index, weight in enumerate(layer.weights)
    }
    modules = pretrained.keras.resnet(50)
    for kind, tree in (("params", our_grads), ("batch_stats", stats)):
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items():
            layer, _, entry = path.rpartition("/")
            rule = layout.keras_rule(modules[layer], entry, leaf.shape)
            theirs = np.asarray(after[id(by_name[rule.names[0]])])
            if entry == "mean":  # theirs is of the convolution with its bias
                theirs = theirs - np.asarray(by_name[rule.names[1]])
            apart = np.linalg.norm(leaf - theirs) / np.linalg.norm(theirs)
            assert apart <= 2e-4, f"{kind}/{path}: {apart}"  # rounding: 5e-5
