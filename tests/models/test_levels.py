"""Every level of every ingredient, on every architecture."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import catalog, models
from cnnjax.config import Dropout, Model, Norm
from cnnjax.errors import UserError
from cnnjax.models import resnet

LEVELS = {
    "activation": {"cube": lambda x: x**3},
    "initializer": {"sevens": lambda key, shape, dtype: jnp.full(shape, 7, dtype)},
    "model": {"short": functools.partial(resnet.resnet, depth=8, residual=False)},
}
# One network of each family, with an image size that is large enough for all levels.
FAMILIES = {
    "mlp": (11, 9),
    "lenet5": (11, 9),
    "lenet5_modern": (11, 9),
    "stack": (11, 9),
    "alexnet": (64, 63),
    "alexnet_grouped": (67, 68),
    "vgg_small": (11, 9),
    "vgg11": (32, 33),
    "inception_small": (11, 9),
    "googlenet": (33, 32),
    "inception_v3": (75, 76),
    "resnet8": (11, 9),
    "plain8": (11, 9),
    "resnet18": (34, 33),
    "resnet50": (33, 34),
}
FACTORS = {
    "activation": catalog.ACTIVATIONS,
    "initializer": catalog.INITIALIZERS,
    "norm": list(itertools.product(catalog.NORMS, catalog.PLACEMENTS)),
    "dropout": list(itertools.product(("plain", "spatial"), ("inverted", "classic"))),
    "pooling": catalog.POOLINGS,
    "width": (1.0, 0.5, 1.3),
    "remat": (False, True),
    "particular": (0, 1, 2),
}
PARTICULAR = {
    "shortcut": ("A", "B", "C"),
    "stride_on": ("first", "middle", "middle"),
    "zero_last_scale": (False, True, True),
    "stochastic_depth": (0.0, 0.5, 0.2),
    "inception_block": ("naive", "factorized_5x5", "asymmetric"),
    "auxiliary_weight": (0.0, 0.3, 1.0),
    "count_include_pad": (True, False, None),
    "scan": (True, False, None),
    "hidden": ((7,), (), (6, 5)),
    "depth": (4, 5, 7),
    "kernel": ("3x3", "two_3x3", "1x3_3x1"),
}


def covering(factors):
    """Rows in which every two levels of every two factors occur together. Each row starts with a
    pair that is still missing, and takes the levels of the other factors that add most missing
    pairs."""
    names = list(factors)
    missing = {
        (first, x, second, y)
        for first, second in itertools.combinations(names, 2)
        for x in factors[first]
        for y in factors[second]
    }
    order = sorted(missing, key=str)
    rows = []
    for pair in order:
        if pair not in missing:
            continue
        row = {pair[0]: pair[1], pair[2]: pair[3]}
        for name in names:
            if name not in row:
                row[name] = max(
                    factors[name], key=lambda level: _count_new(name, level, row, missing)
                )
        missing -= _pairs(row, names)
        rows.append(row)
    return rows


def _count_new(name, level, row, missing):
    return sum(
        (name, level, factor, value) in missing or (factor, value, name, level) in missing
        for factor, value in row.items()
    )


def _pairs(row, names):
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(names, 2)}


ROWS = covering({"name": tuple(FAMILIES), **FACTORS})


def model(row):
    """The configuration of a row."""
    values = dict(row)
    norm, dropout = values.pop("norm"), values.pop("dropout")
    number, published = values.pop("particular"), catalog.MODELS.get(row["name"], catalog.CUSTOM)
    values["norm"] = Norm(kind=norm[0], placement=norm[1])
    values["dropout"] = Dropout(keep_prob=0.5, kind=dropout[0], scaling=dropout[1])
    values |= {field: levels[number] for field, levels in PARTICULAR.items() if field in published}
    if norm[0] == "none" and "zero_last_scale" in values:
        values["zero_last_scale"] = False
    if row["name"] == "lenet5":
        values["width"] = 1.0
    return Model.model_validate(values, context={"levels": LEVELS})


def test_the_rows_cover_all_pairs():
    names = ["name", *FACTORS]
    covered = set().union(*(_pairs(row, names) for row in ROWS))
    levels = {"name": tuple(FAMILIES), **FACTORS}
    pairs = itertools.combinations(names, 2)
    assert len(covered) == sum(len(levels[first]) * len(levels[second]) for first, second in pairs)
    assert len(ROWS) < 300


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pair_of_levels_builds(name):
    shape = (*FAMILIES[name], 2)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    for row in ROWS:
        if row["name"] != name:
            continue
        config = model(row)
        module = models.build(config, image_shape=shape, num_outputs=4, levels=LEVELS)

        def train(images, module=module, statistics=config.norm.kind == "batch"):
            keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
            options = {"train": True, "keep_prob": 0.9}
            if not statistics:  # traced once instead of twice
                logits, variables = module.init_with_output(keys, images, **options)
                return logits, variables.get("batch_stats")
            variables = module.init(keys, images, train=False)
            return module.apply(variables, images, **options, rngs=keys, mutable=["batch_stats"])

        logits, updates = jax.eval_shape(train, images)
        assert (logits.shape, logits.dtype) == ((2, 4), jnp.float32), row
        normalized = name != "mlp" or bool(config.hidden)
        assert bool(updates) is (normalized and config.norm.kind == "batch"), row


def test_the_families_represent_all_models():
    """Networks of a family differ only in the number of blocks."""
    kinds = {
        **dict.fromkeys(("vgg13", "vgg16", "vgg19"), "vgg11"),
        **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"), "vgg11"),
        **dict.fromkeys(("resnet34", "plain18", "plain34"), "resnet18"),
        **dict.fromkeys(("resnet101", "resnet152"), "resnet50"),
    }
    for name in set(models.MODELS) - set(FAMILIES):
        twin = kinds.get(name, f"{name.rstrip('0123456789')}8")
        shape = (64, 64, 3)
        network, representative = (
            models.build(
                Model.model_validate({"name": model_name}, context={"levels": LEVELS}),
                image_shape=shape,
                num_outputs=4,
                levels=LEVELS,
            ).backbone
            for model_name in (name, twin)
        )
        assert type(network) is type(representative)
        if isinstance(network, resnet.ResNet):
            assert network.bottleneck == representative.bottleneck
            assert network.imagenet == representative.imagenet
            assert network.residual is name.startswith("resnet")
        if twin in ("resnet8", "plain8"):
            assert 6 * network.blocks[0] + 2 == int("".join(filter(str.isdigit, name)))


def custom_model(**fields):
    return Model.model_validate(fields, context={"levels": LEVELS})


def test_custom_levels():
    class Tiny(nn.Module):
        make: object
        classes: int

        @nn.compact
        def __call__(self, x, *, train, keep_prob=None):
            x = self.make.activation("activation")(x.reshape(x.shape[0], -1))
            return self.make.dense(self.classes, name="head")(x)

    seen = []

    def tiny(ingredients, classes, image_shape):
        seen.append(image_shape)
        return Tiny(ingredients, classes)

    levels = LEVELS | {"model": {"tiny": tiny}}
    config = Model.model_validate(
        {"name": "tiny", "activation": "cube", "initializer": "sevens"}, context={"levels": levels}
    )
    module = models.build(config, image_shape=(1, 2, 1), num_outputs=3, levels=levels)
    images = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    logits, _ = module.init_with_output(jax.random.key(0), images, train=False)
    np.testing.assert_allclose(logits, [[63.0, 63.0, 63.0]])
    assert seen == [(1, 2, 1)]


@pytest.mark.parametrize("field", ["activation", "initializer", "name"])
def test_unknown_levels_are_named(field):
    name = {"activation": "cube", "initializer": "sevens", "name": "short"}[field]
    with pytest.raises(UserError, match=f"model.{field}: unknown '{name}'"):
        models.build(custom_model(**{field: name}), image_shape=(8, 8, 1), num_outputs=2)


@pytest.mark.parametrize(
    ("name", "pooling", "smallest"),
    [
        ("mlp", "max", 2),
        ("vgg_small", "default", 8),
        ("vgg_small", "strided", 8),
        ("vgg_small", "none", 1),
        ("resnet20", "default", 1),
        ("plain20", "blur", 4),
        ("lenet5", "default", 1),
        ("lenet5_modern", "default", 1),
        ("alexnet", "default", 63),
        ("alexnet_grouped", "max", 67),
        ("alexnet", "none", 7),
        ("vgg16", "default", 32),
        ("inception_small", "blur", 4),
        ("googlenet", "default", 15),
        ("inception_v3", "default", 75),
        ("inception_v3", "none", 23),
        ("resnet50", "default", 1),
    ],
)
def test_the_smallest_size(name, pooling, smallest):
    config = Model(name=name, pooling=pooling)
    shape = (smallest, smallest + 1, 1)
    module = models.build(config, image_shape=shape, num_outputs=2)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = functools.partial(module.init_with_output, train=False)
    assert jax.eval_shape(run, jax.random.key(0), images)[0].shape == (1, 2)
    if smallest > 1:
        wrong = f"data.image_size: {smallest}x{smallest - 1} .*{name}.* works is {smallest}$"
        with pytest.raises(UserError, match=wrong):
            models.build(config, image_shape=(smallest, smallest - 1, 1), num_outputs=2)


def test_no_classes():
    with pytest.raises(UserError, match="num_outputs: 0"):
        models.build(Model(), image_shape=(8, 8, 1), num_outputs=0)
