"""Every level of every ingredient, on every architecture."""

import functools

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
    "model": {
        "resnet8": functools.partial(resnet.resnet, depth=8),
        "plain8": functools.partial(resnet.plain, depth=8),
    },
}
FAMILIES = ["mlp", "lenet5", "lenet5_modern", "vgg_small", "resnet8", "plain8"]

KINDS = [(kind, place) for kind in catalog.NORMS for place in catalog.PLACEMENTS]
DROPOUTS = [(kind, scaling) for kind in ("plain", "spatial") for scaling in ("inverted", "classic")]
ROUNDS = max(map(len, (catalog.ACTIVATIONS, catalog.INITIALIZERS, KINDS, catalog.POOLINGS)))


def nth(table, place):
    return tuple(table)[place % len(table)]


def config(name, place):
    """The `place`-th configuration: over all places each level of each ingredient is met."""
    kind, placement = nth(KINDS, place)
    dropout, scaling = nth(DROPOUTS, place)
    values = {
        "name": name,
        "activation": nth(catalog.ACTIVATIONS, place),
        "initializer": nth(catalog.INITIALIZERS, place),
        "pooling": nth(catalog.POOLINGS, place),
        "norm": Norm(kind=kind, placement=placement),
        "dropout": Dropout(keep_prob=0.5, kind=dropout, scaling=scaling),
    }
    return Model.model_validate(values, context={"levels": LEVELS})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_level_builds_on_every_architecture(name):
    images = jax.ShapeDtypeStruct((2, 11, 9, 2), jnp.float32)
    for place in range(ROUNDS):
        module = models.build(config(name, place), image_shape=(11, 9, 2), classes=4, levels=LEVELS)

        def train(images, module=module):
            variables = module.init(jax.random.key(0), images, train=False)
            rngs = {"dropout": jax.random.key(1)}
            return module.apply(
                variables, images, train=True, keep_prob=0.9, rngs=rngs, mutable=["batch_stats"]
            )

        logits, _ = jax.eval_shape(train, images)
        assert (logits.shape, logits.dtype) == ((2, 4), jnp.float32)


def test_the_families_stand_for_all_models():
    """Residual networks of different depth differ in nothing but their number of blocks."""
    for name in set(models.MODELS) - set(FAMILIES):
        made = models.build(Model(name=name), image_shape=(8, 8, 3), classes=4)
        twin = f"{name.rstrip('0123456789')}8"
        like = models.build(
            Model.model_validate({"name": twin}, context={"levels": LEVELS}),
            image_shape=(8, 8, 3),
            classes=4,
            levels=LEVELS,
        )
        assert isinstance(made, resnet.ResNet)
        assert isinstance(like, resnet.ResNet)
        assert made.residual == like.residual
        assert 6 * made.blocks + 2 == int(name[-3:] if name[-3:].isdigit() else name[-2:])


def own(**fields):
    return Model.model_validate(fields, context={"levels": LEVELS})


def test_levels_of_ones_own():
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
    module = models.build(config, image_shape=(1, 2, 1), classes=3, levels=levels)
    images = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    logits, _ = module.init_with_output(jax.random.key(0), images, train=False)
    np.testing.assert_allclose(logits, [[63.0, 63.0, 63.0]])
    assert seen == [(1, 2, 1)]


@pytest.mark.parametrize("field", ["activation", "initializer", "name"])
def test_unknown_levels_are_named(field):
    name = {"activation": "cube", "initializer": "sevens", "name": "plain8"}[field]
    with pytest.raises(UserError, match=f"model.{field}: unknown '{name}'"):
        models.build(own(**{field: name}), image_shape=(8, 8, 1), classes=2)


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
    ],
)
def test_the_smallest_size(name, pooling, smallest):
    config = Model(name=name, pooling=pooling)
    shape = (smallest, smallest + 1, 1)
    module = models.build(config, image_shape=shape, classes=2)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = functools.partial(module.init_with_output, train=False)
    assert jax.eval_shape(run, jax.random.key(0), images)[0].shape == (1, 2)
    if smallest > 1:
        wrong = f"data.image_size: {smallest}x{smallest - 1} .*{name}.* works is {smallest}$"
        with pytest.raises(UserError, match=wrong):
            models.build(config, image_shape=(smallest, smallest - 1, 1), classes=2)


def test_no_classes():
    with pytest.raises(UserError, match="classes: 0"):
        models.build(Model(), image_shape=(8, 8, 1), classes=0)
