"""Features by name, and what the deeper architectures have besides layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.config import Dropout, Model, Norm, Optimizer
from cnnjax.errors import UserError
from cnnjax.models import googlenet, resnet
from cnnjax.models.branches import adaptive_average, average_3x3
from cnnjax.models.resnet import Block
from cnnjax.nn import ingredients, operations
from cnnjax.nn.dropout import drop_path
from cnnjax.nn.native import library
from cnnjax.nn.normalization import local_response
from cnnjax.tasks import classification
from cnnjax.train import optim, state
from cnnjax.train import step as steps
from common import variables as drawn

KEY = jax.random.key(0)


def described(name, size, **fields):
    shape = (size, size, 3)
    module = models.build(Model(name=name, **fields), image_shape=shape, num_outputs=10)
    return models.describe(module, shape)


def test_the_endpoints_of_published_networks():
    """The sizes of the papers' figures and tables."""
    shapes = described("alexnet_grouped", 227)
    assert list(shapes.items()) == [
        ("conv1", (55, 55, 96)), ("pool1", (27, 27, 96)), ("conv2", (27, 27, 256)),
        ("pool2", (13, 13, 256)), ("conv3", (13, 13, 384)), ("conv4", (13, 13, 384)),
        ("conv5", (13, 13, 256)), ("pool5", (6, 6, 256)), ("fc1", (4096,)), ("fc2", (4096,)),
    ]  # fmt: skip
    shapes = described("vgg16", 224)
    assert shapes == models.describe("vgg16")
    assert [name for name in shapes if name.startswith("conv")][-3:] == [
        "conv5_1", "conv5_2", "conv5_3",
    ]  # fmt: skip
    assert shapes["pool5"] == (7, 7, 512)
    shapes = described("googlenet", 224)
    assert shapes["pool2"] == (28, 28, 192)
    assert shapes["mixed4e"] == (14, 14, 832)
    assert shapes["mixed5b"] == (7, 7, 1024)
    shapes = described("inception_v3", 299)
    assert shapes["pool2"] == (35, 35, 192)
    assert [shapes[f"mixed{n}"] for n in (3, 4, 8, 9, 11)] == [
        (35, 35, 288), (17, 17, 768), (17, 17, 768), (8, 8, 1280), (8, 8, 2048),
    ]  # fmt: skip
    shapes = described("resnet50", 224)
    assert list(shapes)[:3] == ["conv1", "pool1", "stage1_block1"]
    assert [shapes[f"stage{n}_block1"] for n in (1, 2, 3, 4)] == [
        (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048),
    ]  # fmt: skip
    assert list(described("lenet5", 32)) == ["conv1", "pool1", "conv2", "pool2", "conv3", "fc1"]
    assert described("mlp", 8) == {"pool": (8, 8, 3), "fc1": (256,), "fc2": (256,)}


def test_captured_features_are_those_on_the_way_to_the_logits():
    module = models.build(Model(name="lenet5_modern"), image_shape=(8, 8, 1), num_outputs=3)
    images = jax.random.normal(KEY, (2, 8, 8, 1))
    variables = drawn(module, (8, 8, 1))
    run = jax.jit(functools.partial(module.apply, train=False), static_argnames="capture")
    logits, features = run(variables, images, capture=("fc2", "conv2", "pool2"))
    np.testing.assert_allclose(logits, run(variables, images), atol=1e-5)
    assert set(features) == {"conv2", "pool2", "fc2"}
    np.testing.assert_allclose(
        features["pool2"], operations.SLICED.max_pool(features["conv2"]), atol=1e-6
    )
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, features["fc2"] @ head["kernel"] + head["bias"], atol=1e-5)


def test_an_unknown_endpoint_is_named():
    module = models.build(Model(name="lenet5_modern"), image_shape=(8, 8, 1), num_outputs=3)
    run = functools.partial(module.init_with_output, train=False, capture=("conv3",))
    with pytest.raises(UserError, match=r"capture: unknown 'conv3'. Did you mean 'conv"):
        jax.eval_shape(run, KEY, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))


SAMPLE = [
    ("alexnet", 63, 0.1),
    ("vgg11_bn", 32, 0.1),
    ("inception_small", 16, 0.5),
    ("googlenet", 32, 0.1),
    ("resnet50", 32, 0.1),
]


@pytest.fixture
def fewer_blocks(monkeypatch):
    """Each kind of block once or twice: compiling all of them takes several times as long."""
    kept = {"mixed3a", "mixed4a", "mixed4d", "mixed5b"}  # auxiliary heads follow 4a and 4d
    blocks = tuple(tuple(row for row in stage if row[0] in kept) for stage in googlenet.BLOCKS)
    monkeypatch.setattr(googlenet, "BLOCKS", blocks)
    monkeypatch.setitem(resnet.IMAGENET, 50, ((2, 1, 1, 1), True))


@pytest.mark.parametrize(("name", "size", "width"), SAMPLE)
@pytest.mark.usefixtures("fewer_blocks")
def test_steps_lower_the_loss_and_reach_every_parameter(name, size, width):
    shape, forms = (size, size, 3), operations.NATIVE
    config = Model(name=name, width=width)
    module = models.build(config, image_shape=shape, num_outputs=10, operations=forms)
    make = optim.optimizer(Optimizer())
    train = steps.train_step(
        module,
        classification.TASK,
        make,
        augment=lambda keys, *batch: batch,
        normalize=lambda images: images,
        auxiliary_weight=0.3,
    )
    before = current = state.create(drawn(module, shape), make, averaged=False)
    keys = state.keys(0)
    numbers = map(np.float32, (0.01, 0, 1, 0))
    hparams = state.HParams(*numbers, keys["augment"], keys["dropout"])
    images = np.random.default_rng(0).integers(0, 256, (8, *shape), dtype=np.uint8)
    batch = {"images": images, "label": np.arange(8, dtype=np.int32)}
    losses, step = [], jax.jit(train)
    for _ in range(6):
        current, metrics = step(current, batch, hparams)
        assert metrics["finite"]
        losses.append(float(metrics["loss"]))
    assert min(losses[1:]) < losses[0]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, current.params)
    still = [jax.tree_util.keystr(p) for p, m in jax.tree.leaves_with_path(moved) if not m]
    assert not still


def test_auxiliary_heads_count_in_the_gradient_and_not_in_the_metrics():
    shape = (15, 15, 1)
    module = models.build(Model(name="googlenet", width=0.05), image_shape=shape, num_outputs=3)
    variables = jax.eval_shape(
        functools.partial(module.init, train=False), KEY, jnp.zeros((1, *shape))
    )
    assert {"auxiliary1_head", "auxiliary2_head"} <= set(variables["params"])
    bare = models.build(
        Model(name="googlenet", auxiliary_weight=0.0), image_shape=shape, num_outputs=3
    )
    variables = jax.eval_shape(
        functools.partial(bare.init, train=False), KEY, jnp.zeros((1, *shape))
    )
    assert not [name for name in variables["params"] if "auxiliary" in name]

    class Two:
        """Logits a, and in training an auxiliary head of logits b."""

        def apply(self, variables, images, *, mutable, **rest):
            params = variables["params"]
            head = jnp.broadcast_to(params["b"], (2, 2))
            return jnp.broadcast_to(params["a"], (2, 2)), {"auxiliary": {"x": (head,)}}

    make = optim.optimizer(Optimizer(name="sgd"))
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    keys = state.keys(0)
    hparams = state.HParams(1.0, 0.0, 1.0, 0.0, keys["augment"], keys["dropout"])
    batch = {"images": np.zeros((2, 1, 1, 1), np.uint8), "label": np.zeros(2, np.int32)}
    for weight in (0.0, 0.25):
        step = steps.train_step(
            Two(),
            classification.TASK,
            make,
            augment=lambda keys, *batch: batch,
            normalize=lambda x: x,
            auxiliary_weight=weight,
        )
        after, metrics = step(
            state.create({"params": params}, make, averaged=False), batch, hparams
        )
        np.testing.assert_allclose(after.params["a"], [0.5, -0.5])
        np.testing.assert_allclose(after.params["b"], [0.5 * weight, -0.5 * weight])
        assert float(metrics["loss"]) == pytest.approx(np.log(2))


def test_local_response_is_the_papers_formula():
    x = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for i in range(7):
        near = x[..., max(0, i - 2) : i + 3]
        expected[..., i] = x[..., i] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response(jnp.asarray(x)), expected, rtol=1e-5)
    strong = local_response(jnp.asarray(x), alpha=1.0)
    assert float(jnp.abs(strong).max()) < float(jnp.abs(local_response(jnp.asarray(x))).max())


def test_averages_as_torch_has_them():
    x = jnp.arange(49.0).reshape(1, 7, 7, 1)
    means = adaptive_average(x, 4)[0, :, :, 0]
    starts, stops = (0, 1, 3, 5), (2, 4, 6, 7)
    for i in range(4):
        for j in range(4):
            part = x[0, starts[i] : stops[i], starts[j] : stops[j], 0]
            assert float(means[i, j]) == pytest.approx(float(part.mean()))
    for counted, corner in ((None, 4 / 9), (False, 1.0)):
        make = ingredients.build(Model(name="inception_v3", count_include_pad=counted))
        result = average_3x3(make, jnp.ones((1, 2, 2, 1)))
        assert float(result[0, 0, 0, 0]) == pytest.approx(corner)


def test_drop_path_keeps_the_mean_and_whole_examples():
    x = jnp.ones((4000, 2, 2, 1))
    y = np.asarray(drop_path(x, 0.8, KEY))
    assert set(np.unique(y)) == {0, np.float32(1.25)}
    assert (y == y[:, :1, :1]).all()
    assert y.mean() == pytest.approx(1, abs=0.05)


def block(train=False, x=None, shape=(2, False), survival=1.0, **fields):
    """The parameters and output of one bottleneck block."""
    model = Model(name="resnet50", norm=Norm(kind="batch"), **fields)
    made = Block(ingredients.build(model), *shape, bottleneck=True, residual=True, pooled=False)
    x = jax.random.normal(KEY, (2, 6, 6, 8)) if x is None else x
    variables = made.init(KEY, x, train=False, keep_prob=None)
    options = {"mutable": ["batch_stats"], "rngs": {"dropout": KEY}}
    y, _ = made.apply(variables, x, survival, train=train, keep_prob=None, **options)
    return variables["params"], y, x


@pytest.mark.parametrize(
    ("kind", "same", "halving"), [("A", False, False), ("B", False, True), ("C", True, True)]
)
def test_shortcuts_have_projections_where_they_should(kind, same, halving):
    for features, downsample, expected in ((2, False, same), (4, True, halving)):
        params, y, _ = block(shortcut=kind, shape=(features, downsample))
        assert ("shortcut" in params) is expected
        assert y.shape == ((2, 3, 3, 16) if downsample else (2, 6, 6, 8))


def test_a_zero_last_scale_makes_the_block_its_shortcut():
    _, y, x = block(zero_last_scale=True)
    np.testing.assert_array_equal(y, jax.nn.relu(x))
    _, y, x = block()
    assert not np.allclose(y, jax.nn.relu(x))


def test_stochastic_depth_skips_whole_blocks_in_training_only():
    x = jax.random.normal(KEY, (64, 2, 2, 8))
    fields = {"survival": 0.5, "stochastic_depth": 0.1}
    _, y, _ = block(train=True, x=x, **fields)
    skipped = (np.asarray(y) == np.asarray(jax.nn.relu(x))).all(axis=(1, 2, 3))
    assert 16 < skipped.sum() < 48
    _, evaluated, _ = block(x=x, **fields)
    _, whole, _ = block(x=x)
    np.testing.assert_array_equal(evaluated, whole)


def test_where_the_stride_is_changes_the_size_in_between():
    seen = {}
    for where in ("first", "middle"):
        model = Model(name="resnet50", stride_on=where)
        make = ingredients.build(model)
        made = Block(make, 4, True, bottleneck=True, residual=True, pooled=False)
        x = jnp.ones((1, 8, 8, 8))
        _, state_ = made.apply(
            made.init(KEY, x, train=False, keep_prob=None),
            x,
            train=False,
            keep_prob=None,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        seen[where] = state_["intermediates"]["conv1"]["__call__"][0].shape[1]
    assert seen == {"first": 4, "middle": 8}


def test_rematerialisation_changes_no_gradient():
    images = jax.random.normal(KEY, (4, 8, 8, 3))

    def gradient(remat):
        config = Model(name="resnet8", width=0.25, remat=remat)
        module = models.build(config, image_shape=(8, 8, 3), num_outputs=3)
        variables = drawn(module, (8, 8, 3))

        def loss(params):
            logits, _ = module.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return (logits**2).sum()

        text = str(jax.make_jaxpr(jax.grad(loss))(variables["params"]))
        assert ("remat" in text or "checkpoint" in text) is remat
        return jax.jit(jax.grad(loss))(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        gradient(True),
        gradient(False),
    )


def test_width_multiplies_channels_and_units():
    def sizes(**fields):
        shape = (63, 63, 3)
        module = models.build(Model(name="alexnet", **fields), image_shape=shape, num_outputs=4)
        params = jax.eval_shape(
            functools.partial(module.init, train=False), KEY, jnp.zeros((1, *shape))
        )["params"]
        return [params[name]["conv"]["kernel"].shape[-1] for name in ("conv1", "conv5")], params[
            "fc1"
        ]["dense"]["kernel"].shape

    assert sizes() == ([64, 256], (256, 4096))
    assert sizes(width=0.5, hidden=(10,)) == ([32, 128], (128, 5))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("vgg16", "shortcut", "A"), ("lenet5", "hidden", (3,)), ("resnet18", "stride_on", "first")],
)
def test_a_field_of_another_architecture_is_refused(name, field, value):
    from cnnjax.config import RunConfig, override

    with pytest.raises(UserError, match=rf"model.{field}: means nothing for {name}; it belongs to"):
        override(RunConfig(), {"model.name": name, f"model.{field}": value})


def test_lenet5_has_one_width():
    with pytest.raises(UserError, match=r"model.width: 0.5 is not possible for lenet5"):
        models.build(Model(name="lenet5", width=0.5), image_shape=(28, 28, 1), num_outputs=10)


def test_describe_by_name_is_checked():
    with pytest.raises(UserError, match="Did you mean 'resnet18'"):
        models.describe("resnt18")
    with pytest.raises(UserError, match="smallest size that works is 32"):
        models.describe("vgg16", (20, 20, 3))


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("native", [False, True])
def test_a_loop_over_alike_blocks_is_the_blocks_one_by_one(native, remat):
    if native and library.missing():
        pytest.skip(f"no native code: {library.missing()}")
    fast = operations.NATIVE if native else operations.PLAIN
    images = jax.random.normal(KEY, (8, 16, 16, 3))
    norm = Norm(kind="batch", alpha=0.5)

    def built(scan):
        model = Model(name="resnet20", scan=scan, remat=remat, norm=norm)
        return models.build(model, image_shape=(16, 16, 3), num_outputs=3, operations=fast)

    variables = drawn(built(True), (16, 16, 3))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, drawn(built(False), (16, 16, 3))
    )

    def results(scan):
        module = built(scan)

        def loss(params):
            given = {**variables, "params": params}
            logits, updated = module.apply(given, images, train=True, mutable=["batch_stats"])
            return (logits**2).mean(), updated

        program = jax.jit(jax.value_and_grad(loss, has_aux=True))
        compiled = program.lower(variables["params"])
        return compiled.as_text().count("while"), program(variables["params"])

    (loops, looped), (none, unrolled) = results(True), results(False)
    assert none < loops  # a loop for each stage, and one for each gradient
    assert jax.tree.structure(looped) == jax.tree.structure(unrolled)

    def close(one, other):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4 * float(jnp.abs(other).max()))

    jax.tree.map(close, looped, unrolled)


def test_blocks_of_a_loop_are_drawn_one_by_one():
    model = Model(name="resnet20", scan=True, width=0.25, norm=Norm(kind="batch"))
    module = models.build(model, image_shape=(4, 4, 3), num_outputs=3)
    variables = jax.jit(lambda key: state.initial_variables(module, (4, 4, 3), key))(KEY)
    kernels = [variables["params"][f"stage3_block{i}"]["conv1"]["conv"]["kernel"] for i in (2, 3)]
    assert not np.allclose(*kernels)
    assert [float(kernel.std()) for kernel in kernels] == pytest.approx([(2 / 144) ** 0.5] * 2, 0.1)


def test_stochastic_depth_and_dropout_differ_from_block_to_block_in_a_loop():
    model = Model(name="resnet20", scan=True, stochastic_depth=0.5, dropout=Dropout(keep_prob=0.5))
    module = models.build(model, image_shape=(8, 8, 3), num_outputs=3)
    images = jax.random.normal(KEY, (4, 8, 8, 3))
    variables = drawn(module, (8, 8, 3))

    @jax.jit
    def logits(key):
        options = {"mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return module.apply(variables, images, train=True, keep_prob=0.5, **options)[0]

    np.testing.assert_array_equal(logits(KEY), logits(KEY))
    assert not np.allclose(logits(KEY), logits(jax.random.key(1)))
