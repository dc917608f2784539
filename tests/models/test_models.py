"""What every model must do, from one table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.config import Dropout, Model, Norm

# The parameters of each model in its published form: (image, classes, count). Those of the residual
# networks for small images are those of public re-implementations with option A shortcuts (0.27,
# 0.46, 0.66, 0.85, 1.7, 19.4 M); those for ImageNet are torchvision's, with auxiliary heads, and
# alexnet_grouped has those of the paper's layers.
SMALL_IMAGE, IMAGENET = (32, 32, 3), (224, 224, 3)
PARAMETERS = {
    "mlp": ((32, 32, 1), 10, 330_762),
    "lenet5": ((32, 32, 1), 10, 60_000),
    "lenet5_modern": ((32, 32, 1), 10, 61_706),
    "stack": (SMALL_IMAGE, 10, 75_050),
    "alexnet": (IMAGENET, 1000, 61_100_840),
    "alexnet_grouped": ((227, 227, 3), 1000, 60_965_224),
    "vgg_small": (SMALL_IMAGE, 10, 551_146),
    "vgg11": (IMAGENET, 1000, 132_863_336),
    "vgg13": (IMAGENET, 1000, 133_047_848),
    "vgg16": (IMAGENET, 1000, 138_357_544),
    "vgg19": (IMAGENET, 1000, 143_667_240),
    "vgg11_bn": (IMAGENET, 1000, 132_868_840),
    "vgg13_bn": (IMAGENET, 1000, 133_053_736),
    "vgg16_bn": (IMAGENET, 1000, 138_365_992),
    "vgg19_bn": (IMAGENET, 1000, 143_678_248),
    "inception_small": (SMALL_IMAGE, 10, 285_290),
    "googlenet": (IMAGENET, 1000, 13_004_888),
    "inception_v3": ((299, 299, 3), 1000, 27_161_264),
    "resnet8": (SMALL_IMAGE, 10, 75_290),
    "resnet20": (SMALL_IMAGE, 10, 269_722),
    "resnet32": (SMALL_IMAGE, 10, 464_154),
    "resnet44": (SMALL_IMAGE, 10, 658_586),
    "resnet56": (SMALL_IMAGE, 10, 853_018),
    "resnet110": (SMALL_IMAGE, 10, 1_727_962),
    "resnet1202": (SMALL_IMAGE, 10, 19_421_274),
    "plain8": (SMALL_IMAGE, 10, 75_290),
    "plain20": (SMALL_IMAGE, 10, 269_722),
    "plain32": (SMALL_IMAGE, 10, 464_154),
    "plain44": (SMALL_IMAGE, 10, 658_586),
    "plain56": (SMALL_IMAGE, 10, 853_018),
    "plain110": (SMALL_IMAGE, 10, 1_727_962),
    "resnet18": (IMAGENET, 1000, 11_689_512),
    "resnet34": (IMAGENET, 1000, 21_797_672),
    "resnet50": (IMAGENET, 1000, 25_557_032),
    "resnet101": (IMAGENET, 1000, 44_549_160),
    "resnet152": (IMAGENET, 1000, 60_192_808),
    "plain18": (IMAGENET, 1000, 11_515_688),
    "plain34": (IMAGENET, 1000, 21_623_848),
}

KEY = jax.random.key(0, impl="rbg")


def abstract(name, image_shape, classes=10, fields=None, **build):
    """The module and the shapes of its variables."""
    config = Model(name=name, **(fields or {}))
    module = models.build(config, image_shape=image_shape, num_outputs=classes, **build)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    init = functools.partial(module.init, train=False)
    return module, jax.eval_shape(init, KEY, images), images


def test_every_registered_model_is_in_the_table():
    assert list(PARAMETERS) == list(models.MODELS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_output(name):
    shape, classes, count = PARAMETERS[name]
    module, variables, images = abstract(name, shape, classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.eval_shape(functools.partial(module.apply, train=False), variables, images)
    assert (logits.shape, logits.dtype) == ((2, classes), jnp.float32)


def dependencies(function, *arguments):
    """For each leaf of the result: the set of leaves of the arguments it depends on, by the jaxpr
    (a called function's results are taken to depend on all its arguments)."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    masks = {variable: 1 << index for index, variable in enumerate(jaxpr.invars)}
    for equation in jaxpr.eqns:
        mask = 0
        for variable in equation.invars:
            if not hasattr(variable, "val"):
                mask |= masks.get(variable, 0)
        masks |= dict.fromkeys(equation.outvars, mask)
    output_masks = [masks.get(variable, 0) for variable in jaxpr.outvars]
    return [{i for i in range(len(jaxpr.invars)) if mask >> i & 1} for mask in output_masks]


SIZES = {"alexnet": 63, "alexnet_grouped": 67, "inception_v3": 75} | dict.fromkeys(
    [name for name in PARAMETERS if name.startswith("vgg")], 32
)
"""The side of images that is large enough, where 16 is not."""


@pytest.mark.parametrize("name", [n for n in PARAMETERS if n not in ("resnet1202", "resnet152")])
def test_what_depends_on_what(name):
    """Gradients reach every parameter; batch statistics move, dropout draws, and auxiliary heads
    are there, in training only."""
    config = Model(name=name, norm=Norm(kind="batch"), dropout=Dropout(keep_prob=0.5))
    size = SIZES.get(name, 16)
    module = models.build(config, image_shape=(size, size, 3), num_outputs=10)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(module.init, train=False), KEY, images)

    def run(train, params, stats, images, key):
        logits, state = module.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=train,
            rngs={"dropout": key},
            mutable=["batch_stats", "auxiliary"],
        )
        return logits, state["batch_stats"], state.get("auxiliary", {})

    paths = [jax.tree_util.keystr(path) for path, _ in _flat(variables["params"])]
    own = {index for index, path in enumerate(paths) if "auxiliary" not in path}
    arguments = (variables["params"], variables["batch_stats"], images, KEY)
    n_params, n_stats = (len(jax.tree.leaves(tree)) for tree in arguments[:2])
    image, key = n_params + n_stats, n_params + n_stats + 1
    params, statistics = set(range(n_params)), set(range(n_params, n_params + n_stats))

    logits, *rest = dependencies(functools.partial(run, True), *arguments)
    assert logits == own | {image, key}
    moved, heads = rest[:n_stats], rest[n_stats:]
    assert len(moved) == n_stats
    assert all(image in mask for mask in moved)
    assert len(heads) == {"googlenet": 2, "inception_v3": 1}.get(name, 0)
    assert set().union(logits, *heads) == params | {image, key}
    logits, *kept = dependencies(functools.partial(run, False), *arguments)
    assert own | {image} <= logits <= own | statistics | {image}
    assert kept == [{index} for index in sorted(statistics)]


@functools.cache
def small(name):
    """The gradient of a model with batch norm and dropout, compiled once."""
    keep_prob = 1.0 if name == "resnet8" else 0.5  # each draw takes seconds to compile
    dropout = Dropout(keep_prob=keep_prob, kind="spatial" if name == "lenet5_modern" else "plain")
    values = {"name": name, "norm": Norm(kind="batch"), "dropout": dropout}
    values |= {"hidden": (32, 16)} if name in ("mlp", "vgg_small") else {}
    module = models.build(Model(**values), image_shape=(8, 8, 1), num_outputs=3)
    images = jax.random.normal(jax.random.key(1, impl="rbg"), (8, 8, 8, 1))
    variables = jax.jit(functools.partial(module.init, train=False))(KEY, images)

    @jax.jit
    def step(variables, key, keep_prob):
        def loss(params):
            logits, state = module.apply(
                variables | {"params": params},
                images,
                train=True,
                keep_prob=keep_prob,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            losses = -jax.nn.log_softmax(logits)[jnp.arange(8), jnp.arange(8) % 3]
            return losses.mean(), (logits, state["batch_stats"])

        return jax.grad(loss, has_aux=True)(variables["params"])

    return variables, lambda *arguments: jax.device_get(step(variables, *arguments)), step


SMALL = ["mlp", "lenet5", "lenet5_modern", "vgg_small", "resnet8"]


@pytest.mark.parametrize("name", SMALL)
def test_gradients_and_statistics_in_numbers(name):
    variables, run, _ = small(name)
    gradient, (_, stats) = run(jax.random.key(2, impl="rbg"), 0.75)
    zero = [jax.tree_util.keystr(path) for path, leaf in _flat(gradient) if not leaf.any()]
    assert not zero
    assert all(np.isfinite(leaf).all() for _, leaf in _flat(gradient))
    initial = jax.device_get(variables["batch_stats"])
    for (path, now), (_, before) in zip(_flat(stats), _flat(initial), strict=True):
        assert (now != before).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", SMALL[:-1])
def test_dropout_in_numbers(name):
    _, run, step = small(name)
    one, same, other, full = (
        run(jax.random.key(key, impl="rbg"), keep)[1][0]
        for key, keep in ((2, 0.7), (2, 0.7), (3, 0.7), (2, 1.0))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one != full).any()
    assert step._cache_size() == 1


def _flat(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def test_frozen_statistics_stay_in_training():
    config = Model(name="lenet5_modern", norm=Norm(kind="batch", frozen=True))
    module = models.build(config, image_shape=(8, 8, 1), num_outputs=3)
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    variables = jax.eval_shape(functools.partial(module.init, train=False), KEY, images)
    run = functools.partial(module.apply, train=True, mutable=["batch_stats"])
    stats = len(jax.tree.leaves(variables["batch_stats"]))
    _, *kept = dependencies(run, variables, images)
    assert stats > 0
    assert kept == [{index} for index in range(stats)]


def test_bfloat16_computes_in_bfloat16_only():
    module, variables, images = abstract("resnet20", (8, 8, 3), dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    run = functools.partial(module.apply, train=True, mutable=["batch_stats", "intermediates"])
    run = functools.partial(run, capture_intermediates=True)
    logits, state = jax.eval_shape(run, variables, images)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state["batch_stats"])} == {jnp.dtype("float32")}
    inner = state["intermediates"]["stage1_block1"]
    assert {leaf.dtype for leaf in jax.tree.leaves(inner)} == {jnp.dtype("bfloat16")}


def test_layer_names_are_stable():
    names = {
        "mlp": {"fc1", "fc2", "head"},
        "lenet5": {"conv1", "pool1", "conv2", "pool2", "conv3", "fc1"},
        "lenet5_modern": {"conv1", "conv2", "fc1", "fc2", "head"},
        "vgg_small": {
            *(f"conv{stage}_{index}" for stage in (1, 2, 3) for index in (1, 2)),
            "fc1",
            "head",
        },
        "resnet20": {
            "conv1",
            *(f"stage{stage}_block{block}" for stage in (1, 2, 3) for block in (1, 2, 3)),
            "head",
        },
    }
    for name, expected in names.items():
        _, variables, _ = abstract(name, (16, 16, 1))
        assert set(variables["params"]) == expected
