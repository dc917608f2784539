"""The table of networks in docs/networks.md: python -m tests.peers.networks [NAME ...]

For each network at its published size: parameters, multiply-adds, what a unit of the last maps and
one of the head sees, how long its train step compiles, and for each source of weights the largest
difference between the logits there and here, as a share of the largest logit: random weights and
statistics, saved there, converted, two random images. What is not installed is left out
(torchvision, timm, keras).
"""

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np

from cnnjax import catalog, config, models, pretrained
from cnnjax.analysis import layers
from cnnjax.nn import operations
from cnnjax.tasks import classification
from cnnjax.train import optim, session, state, step

CLASSES = 1000


def seconds_to_initialize(module, shape):
    """The compiled program of the fresh variables, and its one run."""
    start = time.perf_counter()
    program = jax.jit(
        lambda key: state.initial_variables(module, shape, key),
        compiler_options=session.FAST_COMPILE[jax.default_backend()],
    )
    jax.block_until_ready(program(jax.random.key(0)))
    return time.perf_counter() - start


def seconds_to_compile(module, shape):
    make = optim.optimizer(config.Optimizer())
    train = step.train_step(
        module, classification.TASK, make, augment=lambda keys, *batch: batch, normalize=lambda x: x
    )
    start = time.perf_counter()
    variables = jax.eval_shape(
        lambda key: state.initial_variables(module, shape, key), jax.random.key(0)
    )
    before = jax.eval_shape(lambda given: state.create(given, make, averaged=False), variables)
    batch = {
        "images": jax.ShapeDtypeStruct((2, *shape), np.uint8),
        "label": jax.ShapeDtypeStruct((2,), np.int32),
    }
    keys, number = state.keys(0), np.float32(0.1)
    hparams = state.HParams(number, number, number, number, keys["augment"], keys["dropout"])
    jax.jit(train).lower(before, batch, hparams).compile()
    return time.perf_counter() - start


def of_torch(network, folder):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.uniform_(-0.2, 0.2)
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    network.eval()
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)

    def logits(images):
        with torch.no_grad():
            return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()

    return path, logits


def torchvision(name, folder):
    import torchvision

    fields = {"weights": None, "num_classes": CLASSES}
    if name in ("googlenet", "inception_v3"):
        fields |= {"aux_logits": True, "init_weights": False, "transform_input": False}
    return of_torch(getattr(torchvision.models, name)(**fields), folder)


def timm(name, folder):
    import timm

    return of_torch(timm.create_model(name, pretrained=False, num_classes=CLASSES), folder)


def keras(name, folder):
    import keras

    makers = {"inception_v3": keras.applications.InceptionV3} | {
        f"{kind.lower()}{depth}": getattr(keras.applications, f"{kind}{depth}")
        for kind, depths in (("VGG", (16, 19)), ("ResNet", (50, 101, 152)))
        for depth in depths
    }
    network = makers[name](weights=None, classes=CLASSES, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(rng.uniform(-0.2, 0.2, layer.beta.shape))
            layer.moving_mean.assign(rng.uniform(-0.1, 0.1, layer.beta.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.beta.shape))
    path = folder / "model.weights.h5"
    network.save_weights(path)
    return path, lambda images: np.asarray(network(images, training=False))


PEERS = {"torchvision": torchvision, "timm": timm, "keras": keras}


def apart(source, name, shape):
    """The largest difference of logits, as a share of the largest; None where there is no peer."""
    if source not in PEERS or name not in pretrained.SOURCES[source].models:
        return None
    if importlib.util.find_spec(source) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path, logits = PEERS[source](name, Path(folder))
        found = pretrained.convert(source, name, path)
    module = models.build(found.config.model, image_shape=shape, num_outputs=found.num_classes)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    ours = jax.jit(lambda variables, x: module.apply(variables, x, train=False))(
        found.variables, images
    )
    theirs = logits(images)
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def sees(found, shape):
    """The sides of the receptive fields of the last maps (of the image, where there are none) and
    of the head."""
    maps = [layer for layer in found if len(layer.output_shape) > 1]
    (head,) = (layer for layer in found if layer.name == "head")
    sides = [max(layer.receptive_field["size"]) for layer in maps]
    return max(sides, default=shape[0]), max(head.receptive_field["size"])


def row(name):
    shape, classes = catalog.IMAGES[name], catalog.CLASSES[name]
    model = config.resolve_model(config.Model(name=name))
    plain = models.build(model, image_shape=shape, num_outputs=classes)
    found = layers.layers(plain, shape)
    total = layers.totals(found)
    fast = operations.choose(jax.default_backend(), "native")
    module = models.build(model, image_shape=shape, num_outputs=classes, operations=fast)
    cells = [
        f"`{name}`",
        "x".join(map(str, shape)),
        f"{total['parameters']:,}",
        f"{total['multiply_adds'] / 1e9:.3g}",
        *(f"{side:,}" for side in sees(found, shape)),
        f"{seconds_to_initialize(module, shape):.0f}",
        f"{seconds_to_compile(module, shape):.0f}",
    ]
    for source in PEERS:
        difference = apart(source, name, shape)
        cells.append("" if difference is None else f"{difference:.0e}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    heads = [
        "network",
        "image",
        "parameters",
        "GMACs",
        "maps see",
        "head sees",
        "init [s]",
        "step [s]",
        *PEERS,
    ]
    print("| " + " | ".join(heads) + " |")
    print("| --- | --- |" + " ---: |" * (len(heads) - 2))
    for name in sys.argv[1:] or catalog.MODELS:
        print(row(name), flush=True)
