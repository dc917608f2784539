"""What inspection says, against the network itself."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.networks import sees

from cnnjax import catalog, models
from cnnjax.analysis import layers, receptive_fields
from cnnjax.config import Dropout, Model, Norm, resolve_model
from cnnjax.models.backbone import ALL_ENDPOINTS
from common import ROOT, program

KEY = jax.random.key(0)
TABLE = ROOT / "docs" / "networks.md"


def build(name, size, classes=10, channels=3, per_pixel=False, **values):
    shape = (size, size, channels)
    config = Model(name=name, **values)
    fields = {"image_shape": shape, "num_outputs": classes, "per_pixel": per_pixel}
    return models.build(config, **fields), shape


@pytest.mark.parametrize(
    ("name", "size", "multiply_adds", "seen"),
    [
        ("alexnet", 224, 714_188_480, ("pool5", 195, 32)),
        ("vgg16", 224, 15_470_264_320, ("pool5", 212, 32)),
        ("resnet50", 224, 4_089_184_256, ("stage4_block3", 427, 32)),
        ("googlenet", 224, 1_498_376_192, None),
        ("inception_v3", 299, 5_713_216_096, ("mixed11", 1311, 32)),
    ],
)
def test_published_figures(name, size, multiply_adds, seen):
    """Multiply-adds as usually given (0.71, 15.5, 4.1, 1.5, 5.7 billion); receptive fields of
    AlexNet and VGG-16 as in google-research/receptive_field."""
    module, shape = build(name, size, classes=1000)
    layer_list = layers.layers(module, shape)
    total = layers.totals(layer_list)
    assert total["multiply_adds"] == multiply_adds
    variables = jax.eval_shape(
        functools.partial(module.init, train=False), KEY, jnp.zeros((1, *shape))
    )
    assert total["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    if seen:
        layer = next(layer for layer in layer_list if layer.name == seen[0])
        assert layer.receptive_field["size"] == (seen[1], seen[1])
        assert layer.receptive_field["stride"] == (seen[2], seen[2])


@pytest.mark.parametrize(
    "name", ["mlp", "lenet5", "lenet5_modern", "stack", "alexnet", "vgg_small", "vgg16", "resnet8"]
)
def test_the_table_of_networks_says_what_units_see(name):
    (line,) = (line for line in TABLE.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    shape = catalog.IMAGES[name]
    model = resolve_model(Model(name=name))
    module = models.build(model, image_shape=shape, num_outputs=catalog.CLASSES[name])
    layer_list = layers.layers(module, shape)
    cells = [cell.strip() for cell in line.split("|")][2:7]
    assert cells[0] == "x".join(map(str, shape))
    assert cells[1] == f"{layers.totals(layer_list)['parameters']:,}"
    assert cells[3:] == [f"{side:,}" for side in sees(layer_list, shape)]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mlp", 28), ("lenet5", 32), ("lenet5_modern", 28), ("alexnet", 224), ("vgg_small", 32),
        ("vgg11", 64), ("inception_small", 32), ("googlenet", 64), ("inception_v3", 128),
        ("resnet20", 32), ("resnet18", 64), ("resnet50", 64),
        ("unet", 32), ("fcn8s", 65), ("fcn32s", 64), ("naive_segmentation", 16),
    ],
)  # fmt: skip
def test_multiply_adds_inside_are_what_xla_counts(name, size):
    """XLA counts two operations each, leaves out those on borders, and counts elementwise work too,
    which identities keep small: at most 2 % apart."""
    quiet = {
        "activation": "identity",
        "norm": Norm(kind="none"),
        "dropout": Dropout(keep_prob=1.0),
        "pooling": "strided",
    }
    module, shape = build(name, size, per_pixel=name in catalog.SEGMENTATION_MODELS, **quiet)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(functools.partial(module.init, train=False), KEY, images)
    run = jax.jit(functools.partial(module.apply, train=False))
    counted = run.lower(variables, images).cost_analysis()["flops"]
    expected = 2 * layers.totals(layers.layers(module, shape))["multiply_adds_inside"]
    assert counted == pytest.approx(expected, rel=0.02)


NO_YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""With YNNPACK, XLA of jaxlib 0.10.2 computes gradients of single pixels from memory that nothing
was written to: other values in every process."""


def linear(name, size, **values):
    """A network whose units are weighted means of what they see, and its variables."""
    module, shape = build(
        name, size, channels=1, activation="identity", norm=Norm(kind="none"),
        dropout=Dropout(keep_prob=1.0), **{"pooling": "average"} | values,
    )  # fmt: skip
    images = jnp.zeros((1, *shape))
    variables = jax.eval_shape(functools.partial(module.init, train=False), KEY, images)

    def averaging(leaf):
        return jnp.full(leaf.shape, 1 / max(1, np.prod(leaf.shape[:-1])))

    return module, jax.tree.map(averaging, variables), shape


@pytest.mark.parametrize(
    ("name", "size", "values"),
    [
        ("lenet5", 36, {"pooling": "subsampling"}),
        ("lenet5_modern", 40, {}),
        ("vgg_small", 64, {}),
        ("vgg_small", 64, {"pooling": "strided"}),
        ("vgg11", 256, {"width": 0.02}),
        ("alexnet", 255, {"width": 0.02}),
        ("inception_small", 96, {"width": 0.1, "inception_block": "asymmetric"}),
        ("inception_small", 96, {"width": 0.1, "inception_block": "naive"}),
        ("resnet20", 96, {"pooling": "strided", "width": 0.1}),
        ("resnet20", 96, {"width": 0.1, "shortcut": "B"}),
        ("resnet18", 512, {"width": 0.02}),
        ("resnet50", 512, {"width": 0.02}),
        ("googlenet", 480, {"width": 0.02}),
        ("inception_v3", 299, {"width": 0.02}),
    ],
)
def test_receptive_fields_are_what_a_gradient_finds(name, size, values):
    """The gradient of a unit in the middle of a map is not zero just where the unit sees."""
    module, variables, shape = linear(name, size, **values)
    by_name = {layer.name: layer for layer in layers.layers(module, shape)}
    described = models.describe(module, shape)
    names = [n for n, features in described.items() if len(features) == 3 and min(features) > 0]
    names = [names[0], names[len(names) // 2], names[-1]]

    @functools.partial(jax.jit, compiler_options=NO_YNNPACK)
    def gradients(image):
        def sums(image):
            _, features = module.apply(variables, image, train=False, capture=ALL_ENDPOINTS)
            return [
                features[n][0, features[n].shape[1] // 2, features[n].shape[2] // 2].sum()
                for n in names
            ]

        return jax.jacrev(sums)(image)

    for name_, gradient in zip(names, gradients(jnp.ones((1, *shape))), strict=True):
        seen = np.asarray(gradient[0, :, :, 0]) != 0
        inner = [n for n in by_name if n == name_ or n.startswith(f"{name_}/")]
        field = by_name[inner[-1]].receptive_field
        for axis in (0, 1):
            position = described[name_][axis] // 2
            start = field["offset"][axis] + position * field["stride"][axis]
            stop = start + field["size"][axis]
            pixels = np.flatnonzero(seen.any(axis=1 - axis))
            assert (pixels[0], pixels[-1] + 1) == (max(0, start), min(size, stop)), name_


DECODED = [  # network, side of the images, fields, pixels that a unit of the outputs sees
    # pool3 sees 36, at a stride of 8. Upsampling halves the stride and adds it, a convolution adds
    # it twice.
    ("vgg_small", 96, {"decoder": "transposed", "transposed_kernel": 2}, 36 + 3 * (4 + 2 + 1)),
    ("vgg_small", 96, {"decoder": "nearest"}, 36 + 3 * (4 + 2 + 1)),
    ("vgg_small", 96, {"decoder": "transposed"}, None),
    ("vgg_small", 96, {"decoder": "bilinear", "skips": "add"}, None),
    ("vgg_small", 89, {"decoder": "bilinear", "skips": "concatenate"}, None),
    ("vgg_small", 89, {"decoder": "transposed", "transposed_kernel": 3}, None),
    ("vgg_small", 90, {"decoder": "max_unpool", "pooling": "max"}, None),
    ("lenet5_modern", 50, {"decoder": "nearest"}, None),
    ("resnet18", 250, {"width": 0.02, "decoder": "transposed"}, None),
    ("naive_segmentation", 33, {}, 2 * 7 + 1),
    ("unet", 90, {"width": 0.02, "depth": 3}, None),
]


@pytest.mark.parametrize(("name", "size", "values", "sees_pixels"), DECODED)
def test_receptive_fields_of_pixels_bound_what_a_gradient_finds(name, size, values, sees_pixels):
    """Positions see differently many pixels; none more than the field, and one nearly all of it."""
    module, variables, shape = linear(name, size, per_pixel=True, **values)
    layer = layers.layers(module, shape)[-1]
    middle = range(size // 2 - 4, size // 2 + 4)

    @functools.partial(jax.jit, compiler_options=NO_YNNPACK)
    def gradients(image):
        def rows(image):
            outputs = module.apply(variables, image, train=False)
            return outputs[0, middle.start : middle.stop, size // 2].sum(-1)

        return jax.jacrev(rows)(image)[:, 0, :, :, 0]

    found = []
    image = jax.random.normal(KEY, (1, *shape))
    for position, gradient in zip(middle, np.asarray(gradients(image)), strict=True):
        pixels = np.flatnonzero(gradient.any(axis=1))
        start = layer.receptive_field["offset"][0] + position
        stop = start + layer.receptive_field["size"][0]
        assert start <= pixels[0]
        assert pixels[-1] < stop
        found.append(pixels[-1] - pixels[0] + 1)
    assert layer.receptive_field["stride"] == (1, 1)
    if values.get("decoder") != "max_unpool":
        assert max(found) >= 0.7 * min(size, layer.receptive_field["size"][0])
    if sees_pixels:
        assert layer.receptive_field["size"] == (sees_pixels, sees_pixels)


def test_segnet_basic_sees_what_its_paper_says():
    """106x106 pixels of the image (Badrinarayanan et al. 2017, section 3.3)."""
    module, shape = build("segnet_basic", 128, per_pixel=True)
    by_name = {layer.name: layer for layer in layers.layers(module, shape)}
    assert by_name["pool4"].receptive_field["size"] == (106, 106)


def test_upsampling_layers():
    """A transposed convolution multiplies every pixel with the whole kernel."""
    module, shape = build("vgg_small", 16, per_pixel=True, decoder="transposed", width=0.5)
    by_name = {layer.name: layer for layer in layers.layers(module, shape)}
    layer = by_name["decoder1/upsample"]
    assert layer.kind == "transposed convolution"
    assert layer.parameters == 4 * 4 * 64 * 64 + 64
    assert layer.multiply_adds == 2 * 2 * 4 * 4 * 64 * 64
    assert layer.multiply_adds_inside == (2 * 4 - 2) ** 2 * 64 * 64
    assert layer.window == {"size": (4, 4), "stride": (2, 2)}
    for decoder, kind in (("max_unpool", "max unpooling"), ("nearest", "nearest")):
        module, shape = build("vgg_small", 16, per_pixel=True, decoder=decoder, skips="add")
        by_name = {layer.name: layer for layer in layers.layers(module, shape)}
        layer = by_name["decoder1/upsample"]
        assert (layer.kind, layer.multiply_adds, layer.parameters) == (kind, 0, 0)
        assert layer.output_shape == (4, 4, 128)
        assert "conv3_2" in by_name["decoder1"].inputs


def test_150_convolutions_see_301_pixels():
    """The lecture: 2N + 1 pixels after N 3x3 convolutions, and strides that double what follows."""
    field = receptive_fields.image()
    for _ in range(150):
        field = tuple(side.windowed(side.dim, 3, 1, 1) for side in field)
    assert [side.size for side in field] == [301, 301]
    assert [side.low for side in field] == [-150, -150]
    (side, _) = field
    pooled = side.windowed(1, 2, 2, 0)
    assert (pooled.size, pooled.windowed(1, 3, 1, 1).size) == (302, 306)
    assert side.windowed(1, 3, 1, 0, dilation=4).size == 309


def test_the_lectures_convolution_and_fully_connected_layer():
    """300x300 pixels, 5x5: 26 parameters against 8.1e9, which leaves out 90,000 biases."""
    module, shape = build("mlp", 300, channels=1, hidden=(90_000,))
    dense = layers.layers(module, shape)[0]
    assert (dense.kind, dense.parameters) == ("dense", 8_100_000_000 + 90_000)


def test_a_layer_in_full():
    module, shape = build("resnet20", 32)
    first, norm, _ = layers.layers(module, shape)[:3]
    assert (first.name, first.kind) == ("conv1/conv", "convolution")
    assert first.output_shape == (32, 32, 16)
    assert first.multiply_adds == 32 * 32 * 27 * 16
    assert first.multiply_adds_inside == (3 * 32 - 2) ** 2 * 3 * 16
    assert first.activation_bytes == 4 * 32 * 32 * 16
    assert first.receptive_field == {"size": (3, 3), "stride": (1, 1), "offset": (-1, -1)}
    assert (norm.kind, norm.parameters) == ("normalization", 32)


def test_what_is_there_in_training_only_comes_last_with_its_parameters():
    module, shape = build("googlenet", 64)
    auxiliary = [layer for layer in layers.layers(module, shape) if "auxiliary" in layer.name]
    assert {layer.kind for layer in auxiliary} == {"in training only"}
    assert all(layer.parameters for layer in auxiliary)


def test_separate_trunks_are_both_there():
    """Twice the layers of the backbone, and a head on each."""
    heads = {"label": 3, "box": 4}
    rows = {}
    for trunk in ("shared", "separate"):
        config = Model(name="resnet8", trunk=trunk)
        module = models.build(config, image_shape=(16, 16, 1), num_outputs=heads)
        rows[trunk] = layers.layers(module, (16, 16, 1))
    assert not any(layer.kind == layers.IN_TRAINING for layer in rows["separate"])
    once, twice = (
        sum(layer.multiply_adds for layer in rows[trunk] if "head" not in layer.name)
        for trunk in ("shared", "separate")
    )
    assert twice == 2 * once
    sources = {layer.name: layer.inputs for layer in rows["separate"]}
    assert sources["box_head"] == ("trunks_box",)
    assert sources["label_head"] != ("trunks_box",)


def test_the_program_prints_and_writes(tmp_path):
    words = ("launch.inspect", "--model=lenet5_modern", "--input=28,28,1", "--num_classes=10")
    done = program(*words)
    assert "conv2/conv" in done.stdout
    assert done.stdout.splitlines()[-2].split()[:2] == ["total", "61,706"]
    file = tmp_path / "out.json"
    program(*words, "--format=json", f"--output={file}", "--set=model.pooling=average")
    report = json.loads(file.read_text())
    assert report["total"]["parameters"] == 61_706
    assert report["model"]["pooling"] == "average"
    assert {"name", "output_shape", "receptive_field"} <= set(report["layers"][0])
    page = tmp_path / "out.html"
    program(*words, "--format=html", f"--output={page}")
    assert "<svg" in page.read_text()
    done = program(*words, "--set=model.decoder=max_unpool")
    assert "decoder2/upsample" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model=resnt50",), "did you mean resnet50?"),
        ((), "--model: is missing"),
        (("--model=mlp", "--set=model.skips=add"), "model.name: mlp has no feature maps"),
        (("--model=mlp", "--input=28x28"), "--input: '28x28' is not valid; write height,width"),
        (("--model=mlp", "--format=pdf"), "--format: unknown 'pdf'"),
        (("--model=mlp", "--format=html"), "--output=mlp.html"),
        (("--model=mlp", "--set=training.steps=3"), "--set training.steps: is not of the network"),
        (("--model=vgg16", "--input=20,20,3"), "the smallest size that works is 32"),
        (
            ("--model=alexnet", "--set=model.shortcut=B"),
            "error: model.shortcut: means nothing for alexnet; it belongs to resnet8",
        ),
    ],
)
def test_mistakes_are_told(words, message):
    done = program("launch.inspect", *words, check=2)
    assert message in done.stderr
