"""Every network is a backbone and a head, and the backbone can be used alone."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import config as configs
from cnnjax import models
from cnnjax.config import Model
from cnnjax.errors import UserError
from cnnjax.models.backbone import ALL_ENDPOINTS, Backbone, ForwardPass
from cnnjax.tasks import classification, registry
from cnnjax.train.session import Session

SIZES = {"alexnet": 67, "alexnet_grouped": 67, "googlenet": 65, "inception_v3": 107}
FAMILIES = {
    "mlp": 64,
    "lenet5": 84,
    "lenet5_modern": 8,
    "stack": 6,
    "alexnet": 410,
    "alexnet_grouped": 410,
    "vgg_small": 13,
    "vgg11": 410,
    "inception_small": 4,
    "googlenet": 102,
    "inception_v3": 203,
    "resnet8": 6,
    "plain8": 6,
    "resnet50": 204,
}
"""{model: number of features at a tenth of its width}"""


def network(name, trunk=None, **build):
    size = SIZES.get(name, 32)
    width = {} if name == "lenet5" else {"width": 0.1}
    hidden = {"hidden": (640,)} if name == "mlp" else {}
    config = Model(name=name, trunk=trunk, **width, **hidden)
    module = models.build(config, image_shape=(size, size, 3), **{"num_outputs": 5, **build})
    return module, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backbone_is_the_network_without_its_heads(name):
    module, images = network(name)

    def shapes(images):
        variables = module.init(jax.random.key(0), images, train=False)
        alone = module.backbone.init(jax.random.key(0), images, train=False)
        features = module.backbone.apply(alone, images, train=False)
        _, endpoints = module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)
        return variables, alone, features, endpoints

    variables, alone, features, endpoints = jax.eval_shape(shapes, images)
    assert features.shape == (2, FAMILIES[name])
    heads = set(variables["params"]) - set(alone["params"])
    rest = {part: tree for part, tree in variables["params"].items() if part not in heads}
    assert rest == alone["params"]
    assert variables.get("batch_stats") == alone.get("batch_stats")
    auxiliary = {"googlenet": {"auxiliary1_head", "auxiliary2_head"}}
    auxiliary["inception_v3"] = {"auxiliary_head"}
    head = set() if name == "lenet5" else {"head"}
    assert heads == head | auxiliary.get(name, set())
    assert "head" not in endpoints


def test_the_head_is_applied_to_the_features():
    module, _ = network("lenet5_modern")
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = jax.jit(lambda: module.init(jax.random.key(0), images, train=False))()
    features, endpoints = module.backbone.apply(variables, images, train=False, capture="pool2")
    outputs, same = module.apply(variables, images, train=False, capture="pool2")
    head = variables["params"]["head"]
    np.testing.assert_allclose(outputs, features @ head["kernel"] + head["bias"], rtol=1e-5)
    np.testing.assert_array_equal(endpoints["pool2"], same["pool2"])
    alone = jax.jit(lambda: module.backbone.init(jax.random.key(0), images, train=False))()
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: (a == b).all(),
            alone["params"],
            {part: tree for part, tree in variables["params"].items() if part != "head"},
        )
    )


class TwoLayers(nn.Module):
    outputs: int = 5

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, name="out")(nn.relu(nn.Dense(3, name="hidden")(x)))


def test_a_custom_head():
    module, images = network("resnet8", head=TwoLayers())
    outputs, variables = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False), images
    )
    assert outputs.shape == (2, 5)
    assert set(variables["params"]["head"]) == {"hidden", "out"}
    assert variables["params"]["head"]["hidden"]["kernel"].shape == (FAMILIES["resnet8"], 3)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dropout(0.5, deterministic=not train)(x))
        return nn.Dense(5)(x)


def test_a_head_is_told_whether_it_is_trained():
    module, _ = network("mlp", head=Normalized())
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    variables = module.init(jax.random.key(0), images, train=False)
    assert "head" in variables["batch_stats"]

    def outputs(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        result, updates = module.apply(
            variables, images, train=train, rngs=rngs, mutable=["batch_stats"]
        )
        before, after = variables["batch_stats"], updates["batch_stats"]
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
        return result, any(jax.tree.leaves(moved))

    (first, moved), (second, _) = outputs(0, True), outputs(1, True)
    assert moved
    assert (first != second).any()
    (first, moved), (second, _) = outputs(0, False), outputs(1, False)
    assert not moved
    np.testing.assert_array_equal(first, second)


class Flat(Backbone):
    @nn.compact
    def features(self, x, forward):
        return forward.endpoint("flat", self.ingredients.activation("activation")(x.mean((1, 2))))


class Whole(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(5)(x.mean((1, 2)))


def test_a_custom_backbone_gets_a_head():
    levels = {"model": {"flat": lambda make, num_classes, shape: Flat(make), "whole": Whole()}}
    config = Model.model_validate({"name": "flat"}, context={"levels": levels})
    module = models.build(config, image_shape=(4, 4, 3), num_outputs=2, levels=levels)
    (outputs, features), variables = module.init_with_output(
        jax.random.key(0), jnp.ones((1, 4, 4, 3)), train=False, capture="flat"
    )
    assert (outputs.shape, features["flat"].shape) == ((1, 2), (1, 3))
    assert set(variables["params"]) == {"head"}
    whole = Model.model_validate({"name": "whole"}, context={"levels": levels})
    with pytest.raises(TypeError, match=r"model\.name: 'whole' has a head of its own"):
        models.build(whole, image_shape=(4, 4, 3), num_outputs=5, levels=levels, head=TwoLayers())


def test_the_head_of_a_task_is_that_of_its_network():
    own = dataclasses.replace(classification.TASK, head=lambda spec: TwoLayers(spec.num_classes))
    levels = {"task": {"own": own}}
    small = {"name": "mlp", "hidden": (4,)}
    config = configs.resolve(configs.create({"task": "own", "model": small}, levels), levels)
    module = Session(levels=levels).module(config)
    assert (module.head, module.num_outputs) == (TwoLayers(10), 10)
    variables = module.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)), train=False)
    assert set(variables["params"]["head"]) == {"hidden", "out"}


def test_a_head_that_is_not_a_module_is_refused():
    own = dataclasses.replace(classification.TASK, head=lambda spec: None)
    with pytest.raises(TypeError, match=r"task 'own': head: None is not a flax\.linen module"):
        registry.head(own, "own", None)


ENCODERS = {  # the first and the last map, and the sides of the maps before the poolings
    "lenet5": ((28, 28, 6), (5, 5, 16), [28, 10]),
    "lenet5_modern": ((28, 28, 1), (5, 5, 2), [28, 10]),
    "stack": ((32, 32, 2), (8, 8, 6), [32, 16]),
    "alexnet": ((16, 16, 6), (1, 1, 26), [16, 7, 3]),
    "alexnet_grouped": ((15, 15, 10), (1, 1, 26), [15, 7, 3]),
    "vgg_small": ((32, 32, 3), (4, 4, 13), [32, 16, 8]),
    "vgg11": ((32, 32, 6), (1, 1, 51), [32, 16, 8, 4, 2]),
    "inception_small": ((32, 32, 3), (8, 8, 4), [32, 16]),
    "googlenet": ((33, 33, 6), (2, 2, 102), [33, 16, 8, 4]),
    "inception_v3": ((53, 53, 3), (2, 2, 203), [51, 23]),
    "resnet8": ((32, 32, 2), (8, 8, 6), []),
    "resnet50": ((16, 16, 6), (1, 1, 204), [16]),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_backbone_stops_at_its_last_maps(name):
    """No layer after them is created, and those before have the paths that they always have."""
    module, images = network(name)

    class Encoder(nn.Module):
        backbone: Backbone

        def setup(self):
            nn.share_scope(self, self.backbone)

        def __call__(self, x):
            forward = ForwardPass(True, None, (), spatial=True)
            x = self.backbone.features(x, forward)
            for window, before, after in forward.pools:
                assert after.shape[1] == window.output_size(before.shape[1])
            return x, forward.maps, [pool.before for pool in forward.pools]

    (last, maps, pooled), variables = jax.eval_shape(
        lambda x: Encoder(module.backbone).init_with_output(jax.random.key(0), x), images
    )
    whole = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=True), images)
    params, all_params = variables["params"], whole["params"]
    assert params == {layer: all_params[layer] for layer in params}
    assert not any(layer.startswith(("fc", "head", "auxiliary")) for layer in params)
    first, after, before = ENCODERS[name]
    assert maps[0].shape[1:] == (*first[:2], maps[0].shape[-1])
    assert (maps[-1].shape, last.shape) == ((2, *after), (2, *after))
    assert [maps.shape[1] for maps in pooled] == before


HEADS = {"label": 3, "box": 4}


def test_a_head_for_each_name():
    module, images = network("lenet5_modern", num_outputs=HEADS)
    shapes, variables = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False), images
    )
    assert {name: array.shape for name, array in shapes.items()} == {"label": (2, 3), "box": (2, 4)}
    assert {"label_head", "box_head"} <= set(variables["params"])
    assert "head" not in variables["params"]


def test_a_trunk_for_each_head():
    """The second network is another one: it has its own parameters, and changing those of one
    changes the outputs of its head alone."""
    shared, _ = network("lenet5_modern", num_outputs=HEADS, trunk="shared")
    module, _ = network("lenet5_modern", num_outputs=HEADS, trunk="separate")
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    params = module.init(jax.random.key(0), images, train=False)["params"]
    trunk = params["trunks_box"]
    assert set(trunk) == set(params) - {"trunks_box", "label_head", "box_head"}
    alone = shared.init(jax.random.key(0), images, train=False)["params"]
    assert {**alone, "trunks_box": trunk}.keys() == params.keys()
    assert (alone["conv1"]["conv"]["kernel"] == params["conv1"]["conv"]["kernel"]).all()
    assert (trunk["conv1"]["conv"]["kernel"] != params["conv1"]["conv"]["kernel"]).any()
    outputs = module.apply({"params": params}, images, train=False)
    for changed, (same, other) in {"trunks_box": ("label", "box"), "fc1": ("box", "label")}.items():
        doubled = {**params, changed: jax.tree.map(lambda leaf: 2 * leaf, params[changed])}
        after = module.apply({"params": doubled}, images, train=False)
        np.testing.assert_array_equal(after[same], outputs[same])
        assert (after[other] != outputs[other]).any()


def test_auxiliary_heads_of_each_name():
    module, images = network("googlenet", num_outputs=HEADS)
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=True), images)
    assert {f"auxiliary{i}_{name}_head" for i in (1, 2) for name in HEADS} <= set(
        variables["params"]
    )


def test_a_trunk_needs_several_heads():
    with pytest.raises(UserError, match=r"model\.trunk: separate means nothing for a"):
        network("lenet5_modern", trunk="separate")
