"""Parameter groups: what a pattern matches, what a rate does, and that frozen parameters stay."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import catalog, config
from cnnjax.config import Optimizer, ParameterGroup
from cnnjax.errors import Stopped, UserError
from cnnjax.nn.native import normalization as native
from cnnjax.tasks import classification
from cnnjax.train import loop, optim, state, step
from cnnjax.train.active_run import Job
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.groups import Groups
from cnnjax.train.session import Session
from common import small, train_alone

PARAMS = {
    "conv1": {"conv": {"kernel": jnp.array([[2.0, -1.0]]), "bias": jnp.array([0.5, 1.5])}},
    "conv2": {"conv": {"kernel": jnp.array([[1.0, -3.0]]), "bias": jnp.array([2.5, -0.5])}},
    "head": {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.array([3.0, 4.0])},
}


def groups(*fields):
    return tuple(ParameterGroup(**field) for field in fields)


def of(*patterns):
    return Groups(groups(*({"pattern": pattern} for pattern in patterns)))


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("conv1", ["conv1/conv/bias", "conv1/conv/kernel"]),
        ("conv1/conv/kernel", ["conv1/conv/kernel"]),
        ("conv*", [f"conv{n}/conv/{leaf}" for n in (1, 2) for leaf in ("bias", "kernel")]),
        ("*/bias", ["conv1/conv/bias", "conv2/conv/bias", "head/bias"]),
        ("*/conv", [f"conv{n}/conv/{leaf}" for n in (1, 2) for leaf in ("bias", "kernel")]),
        ("[!c]*", ["head/bias", "head/kernel"]),
        ("conv", []),
        ("Head", []),
    ],
)
def test_a_pattern_matches_parameters_or_all_parameters_of_a_layer(pattern, matched):
    selected = of(pattern)
    assert [path for path in state.flat(PARAMS) if selected.index(path) == 0] == matched


def test_the_first_match_wins_and_every_parameter_is_in_one_group():
    three = of("*/bias", "conv*", "conv1")
    indices = {path: three.index(path) for path in state.flat(PARAMS)}
    assert indices["conv1/conv/bias"] == indices["head/bias"] == 0
    assert indices["conv1/conv/kernel"] == indices["conv2/conv/kernel"] == 1
    assert indices["head/kernel"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            [{"pattern": "conv1"}, {"pattern": "cnv2"}],
            r"groups\[1\].pattern: 'cnv2' matches no parameter; nearest: conv2, conv1, conv\w*/",
        ),
        (
            [{"pattern": "conv*"}, {"pattern": "conv1"}],
            r"groups\[1\].pattern: 'conv1' matches only parameters of earlier groups; the first",
        ),
        ([{"pattern": "*", "frozen": True}], "groups: all parameters are frozen; nothing is left"),
    ],
)
def test_a_group_without_parameters_is_an_error_that_names_the_nearest(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Groups(groups(*fields)).check(PARAMS)
    assert caught.value.path == "optimizer.groups"
    assert len(str(caught.value).splitlines()) == 1


def test_a_pattern_that_matches_nothing_is_an_error_before_anything_is_compiled(session):
    with pytest.raises(UserError, match="'fcx' matches no parameter; nearest: fc1"):
        session.check(small(optimizer__groups=[{"pattern": "fcx"}]))
    with pytest.raises(UserError, match="'FC1' matches no parameter; nearest: fc1,"):
        session.check(small(optimizer__groups=[{"pattern": "FC1"}]))


def test_the_groups_are_described_in_one_line():
    two = Groups(
        groups(
            {"pattern": "conv1", "frozen": True},
            {"pattern": "conv2", "rate": 0.1, "decay": False},
        )
    )
    assert two.describe(PARAMS) == (
        "parameter groups: conv1 4 (frozen); conv2 4 (rate 0.1, no decay); others 4"
    )


# By hand.


class Sum(nn.Module):
    """Logits = x (a + b), so that both parts have the same gradient."""

    @nn.compact
    def __call__(self, x, *, train, keep_prob=None):
        x = x.reshape(x.shape[0], -1)
        dense = functools.partial(
            nn.Dense, 2, use_bias=False, kernel_init=nn.initializers.constant(2.0)
        )
        return dense(name="a")(x) + dense(name="b")(x)


BATCH = {
    "images": np.array([[[[255]]], [[[0]]]], np.uint8),
    "label": np.array([0, 1], np.int32),
}
"""The first image is 1, the second 0: d loss / d kernel is [-0.25, 0.25] for each part."""


def numbers(fields, rate, decay=0.0):
    keys = state.keys(0)
    rates = tuple(np.float32(group.rate) for group in fields)
    return state.HParams(rate, decay, 1.0, 0.0, keys["augment"], keys["dropout"], rates)


def built(module, fields=(), *, ema_decay=None, axis_name=None, **optimizer):
    """(step, state before it)"""
    chosen = Optimizer(**{"name": "sgd", "groups": fields, **optimizer})
    make = optim.optimizer(chosen)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1)), train=False)
    averaged = ema_decay is not None
    before = state.create(variables, make, averaged=averaged, groups=Groups(chosen.groups))
    run = step.train_step(
        module,
        classification.TASK,
        make,
        augment=lambda keys, x, targets: (x, targets),
        normalize=lambda x: x,
        ema_decay=ema_decay,
        groups=Groups(chosen.groups),
    )
    return run, before


def after_one(fields, rate, decay=0.0, **optimizer):
    run, before = built(Sum(), fields, **optimizer)
    after, _ = jax.jit(run)(before, BATCH, numbers(fields, rate, decay))
    return after.params["a"]["kernel"][0], after.params["b"]["kernel"][0]


def test_a_rate_by_hand():
    a, b = after_one(groups({"pattern": "a", "rate": 0.1}), 0.5)
    np.testing.assert_allclose(a, [2 + 0.05 * 0.25, 2 - 0.05 * 0.25], rtol=1e-6)
    np.testing.assert_allclose(b, [2 + 0.5 * 0.25, 2 - 0.5 * 0.25], rtol=1e-6)


def test_a_rate_multiplies_the_decay_and_a_group_may_be_exempt_from_it():
    a, b = after_one(groups({"pattern": "a", "rate": 0.1}), 0.5, decay=0.01)
    np.testing.assert_allclose(a, [2 - 0.05 * (0.02 - 0.25), 2 - 0.05 * (0.02 + 0.25)], rtol=1e-6)
    a, b = after_one(groups({"pattern": "a", "decay": False}), 0.5, decay=0.01)
    np.testing.assert_allclose(a, [2 + 0.5 * 0.25, 2 - 0.5 * 0.25], rtol=1e-6)
    np.testing.assert_allclose(b, [2 - 0.5 * (0.02 - 0.25), 2 - 0.5 * (0.02 + 0.25)], rtol=1e-6)


def test_decoupled_decay_is_multiplied_too():
    fields = groups({"pattern": "a", "rate": 0.1})
    a, b = after_one(fields, 0.5, decay=0.01, name="adamw")
    np.testing.assert_allclose(a, [2 - 0.05 * (0.02 - 1), 2 - 0.05 * (0.02 + 1)], rtol=1e-5)
    np.testing.assert_allclose(b, [2 - 0.5 * (0.02 - 1), 2 - 0.5 * (0.02 + 1)], rtol=1e-5)


def test_clipping_is_by_the_norm_of_trained_parameters():
    _, b = after_one((), 1.0, clip_norm=0.1)
    np.testing.assert_allclose(b, [2 + 0.05, 2 - 0.05], rtol=1e-6)  # of four numbers 0.25
    a, b = after_one(groups({"pattern": "a", "frozen": True}), 1.0, clip_norm=0.1)
    np.testing.assert_allclose(b, [2 + 0.1 / 2**0.5, 2 - 0.1 / 2**0.5], rtol=1e-6)
    np.testing.assert_array_equal(a, [2, 2])


def test_a_group_is_exempt_from_decay_also_where_biases_are_decayed():
    make_optimizer = optim.optimizer(
        Optimizer(name="sgd", decay_all=True, groups=groups({"pattern": "conv*", "decay": False}))
    )
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    transform = make_optimizer(1.0, 0.5)
    updates, _ = transform.update(zeros, transform.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["conv1"]["conv"]["kernel"], [[0, 0]])
    np.testing.assert_array_equal(updates["conv2"]["conv"]["bias"], [0, 0])
    np.testing.assert_array_equal(updates["head"]["kernel"], [[-1.5, -2]])
    np.testing.assert_array_equal(updates["head"]["bias"], [-1.5, -2])


@pytest.mark.parametrize("name", catalog.OPTIMIZERS)
def test_groups_update_as_multi_transform_of_optax(name):
    """Its multi_transform, with an optimizer of its own learning rate for each group."""
    fields = groups({"pattern": "conv1", "frozen": True}, {"pattern": "conv2", "rate": 0.1})
    plain = optim.optimizer(Optimizer(name=name))
    peer = optax.multi_transform(
        {"conv1": optax.set_to_zero(), "conv2": plain(0.005, 0.01), "head": plain(0.05, 0.01)},
        {name: jax.tree.map(lambda _, name=name: name, tree) for name, tree in PARAMS.items()},
    )
    both = Groups(fields)
    mine = optim.optimizer(Optimizer(name=name, groups=fields))(0.05, 0.01)
    trained, frozen = both.split(PARAMS)
    state_of_mine, state_of_peer = mine.init(trained), peer.init(PARAMS)
    peer_params = PARAMS
    draw = np.random.default_rng(0)
    for _ in range(3):
        gradient = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape, scale=0.1), PARAMS)
        updates, state_of_mine = mine.update(both.split(gradient)[0], state_of_mine, trained)
        trained = optax.apply_updates(trained, both.scaled(updates, (1.0, 0.1)))
        updates, state_of_peer = peer.update(gradient, state_of_peer, peer_params)
        peer_params = optax.apply_updates(peer_params, updates)
    expected = state.flat(peer_params)
    assert frozen.keys() == {"conv1"}
    assert state.flat({**trained, **frozen}).keys() == expected.keys()
    for path, leaf in state.flat({**trained, **frozen}).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, err_msg=path)


# Freezing.


def norm_of(kind, train):
    if kind == "native":
        return native.BatchNorm(not train, 0.9, 1e-5, name="norm")
    if kind == "field":
        return nn.BatchNorm(use_running_average=not train, name="norm")
    return lambda x: nn.BatchNorm(name="norm")(x, use_running_average=not train)


FOUR = {
    "images": np.array([255, 0, 51, 204], np.uint8).reshape(4, 1, 1, 1),
    "label": np.array([0, 1, 1, 0], np.int32),
}


class Block(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x, train):
        return nn.tanh(norm_of(self.kind, train)(nn.Dense(3, name="dense")(x)))


class Two(nn.Module):
    """Two blocks with batch norm, and a head."""

    kind: str = "field"
    remat: bool = False

    @nn.compact
    def __call__(self, x, *, train, keep_prob=None):
        block = nn.remat(Block, static_argnums=2) if self.remat else Block
        x = x.reshape(x.shape[0], -1)
        x = block(self.kind, name="one")(x, train)
        return nn.Dense(2, name="head")(block(self.kind, name="two")(x, train))


def moved(before, after):
    old, new = state.flat(before), state.flat(after)
    return {path for path in old if not np.array_equal(old[path], new[path])}


@pytest.mark.parametrize(
    ("kind", "remat"), [("native", False), ("field", False), ("argument", False), ("field", True)]
)
def test_frozen_batch_norm_uses_its_running_statistics_and_does_not_update_them(kind, remat):
    fields = groups({"pattern": "one", "frozen": True})
    run, before = built(Two(kind, remat), fields, ema_decay=0.9)
    stats = jax.tree.map(lambda leaf: leaf + 0.3, before.batch_stats)
    before = before.replace(batch_stats=stats, ema=state.Ema(before.params, stats))
    after, metrics = jax.jit(run)(before, FOUR, numbers(fields, 0.5))

    def peer():
        """The loss with running statistics in the first block and the batch's in the second."""
        x = jnp.array([[1.0], [0.0], [0.2], [0.8]])
        x = nn.Dense(3).apply({"params": before.params["one"]["dense"]}, x)
        x = nn.tanh((x - 0.3) / jnp.sqrt(1.3 + 1e-5))
        x = nn.Dense(3).apply({"params": before.params["two"]["dense"]}, x)
        x = nn.tanh((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5))
        logits = nn.Dense(2).apply({"params": before.params["head"]}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, FOUR["label"]).mean()

    assert float(metrics["loss"]) == pytest.approx(float(peer()), rel=1e-5)
    assert moved(before.batch_stats, after.batch_stats) == {"two/norm/mean", "two/norm/var"}
    assert moved(before.ema.batch_stats, after.ema.batch_stats) == {"two/norm/mean", "two/norm/var"}
    assert not any(path.startswith("one/") for path in moved(before.params, after.params))
    assert not any(path.startswith("one/") for path in moved(before.ema.params, after.ema.params))
    assert {"two/dense/kernel", "head/kernel"} <= moved(before.params, after.params)


class Tracked(nn.Module):
    """A layer that keeps a running mean of its own."""

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            mean.value = 0.9 * mean.value + 0.1 * x.mean()
        return x * self.param("scale", nn.initializers.ones, (1,))


class TwoTracked(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, keep_prob=None):
        x = Tracked(name="two")(Tracked(name="one")(x.reshape(x.shape[0], -1)))
        return nn.Dense(2, name="head")(x)


def test_statistics_of_frozen_layers_of_the_users_own_do_not_move():
    fields = groups({"pattern": "one", "frozen": True})
    run, before = built(TwoTracked(), fields)
    after, _ = jax.jit(run)(before, FOUR, numbers(fields, 0.5))
    assert moved(before.batch_stats, after.batch_stats) == {"two/mean"}


def test_statistics_of_partly_frozen_batch_norm_move():
    fields = groups({"pattern": "one/dense", "frozen": True}, {"pattern": "*/bias", "frozen": True})
    run, before = built(Two(), fields)
    after, _ = jax.jit(run)(before, FOUR, numbers(fields, 0.5))
    assert "one/norm/mean" in moved(before.batch_stats, after.batch_stats)
    assert moved(before.params["one"], after.params["one"]) == {"norm/scale"}
    fields = groups({"pattern": "one/norm", "frozen": True})
    run, before = built(Two(), fields)
    after, _ = jax.jit(run)(before, FOUR, numbers(fields, 0.5))
    assert "one/norm/mean" not in moved(before.batch_stats, after.batch_stats)
    assert "one/dense/kernel" in moved(before.params, after.params)


def test_no_gradient_is_computed_for_frozen_parameters():
    def products(fields):
        run, before = built(Two(), fields)
        program = jax.make_jaxpr(run)(before, FOUR, numbers(fields, 0.5))
        return str(program).count("dot_general")

    frozen = groups({"pattern": "one", "frozen": True})
    assert products(()) == 8  # three forward, two for the inputs of layers, three for kernels
    assert products(frozen) == 6  # neither the kernel of the first, nor the input of the second


def network(**changes):
    return small(
        model__name="lenet5_modern",
        model__hidden=None,
        model__norm__kind="batch",
        data__image_size=16,
        training__ema_decay=0.9,
        optimizer__weight_decay=0.1,
        optimizer__decay_all=True,
        training__steps=8,
        evaluation__every_epochs=0.1,
        optimizer__groups=[
            {"pattern": "conv1", "frozen": True},
            {"pattern": "fc1", "rate": 0.5, "decay": False},
        ],
        **changes,
    )


@pytest.mark.parametrize("name", catalog.OPTIMIZERS)
def test_frozen_parameters_keep_their_bits_also_after_resuming(session, tmp_path, name):
    rate = {"sgd": 0.05, "momentum": 0.05, "nesterov": 0.05, "lars": 0.5}.get(name, 1e-3)
    chosen = network(optimizer__name=name, optimizer__learning_rate=rate)
    program, dataset = session.program(chosen), session.dataset(chosen, 1)
    before = session.initial_state(chosen, program, dataset, 1)
    params, stats = jax.device_get((before.params, before.batch_stats))
    calls = []
    with pytest.raises(Stopped):
        train_alone(
            session,
            chosen,
            1,
            tmp_path / "a",
            stop=lambda: calls.append(0) or "x"[: len(calls) > 4],
        )
    with Checkpoints(tmp_path / "a/checkpoints", read_only=True) as checkpoints:
        assert 0 < checkpoints.steps[-1] < 8
    resumed = train_alone(session, chosen, 1, tmp_path / "a")
    assert resumed.status == "finished"
    assert resumed.params_digest == train_alone(session, chosen, 1, tmp_path / "b").params_digest
    with Checkpoints(tmp_path / "a/checkpoints", read_only=True) as checkpoints:
        after, _ = checkpoints.restore(8, before)
    for old, new in ((params, after.params), (params, after.ema.params)):
        changed = moved(old, new)
        assert {path for path in changed if path.startswith("conv1/")} == set()
        assert {"conv2/conv/kernel", "fc1/dense/kernel", "head/kernel"} <= changed
    for new in (after.batch_stats, after.ema.batch_stats):
        changed = moved(stats, new)
        assert {path for path in changed if path.startswith("conv1/")} == set()
        assert "conv2/norm/mean" in changed
    arrays = state.flat(after.opt_state)
    assert not any("conv1" in path for path in arrays)
    assert any("conv2" in path for path in arrays) == (name != "sgd")


def test_two_rates_share_a_program_and_give_the_results_of_single_runs(tmp_path):
    session, digests = Session(), []
    for rate in (0.5, 0.25):
        fields = [{"pattern": "fc*", "rate": rate}]
        chosen = small(training__steps=6, optimizer__groups=fields)
        shared = train_alone(session, chosen, 1, tmp_path / f"{rate}")
        alone = train_alone(Session(), chosen, 1, tmp_path / f"{rate}-alone")
        assert shared.params_digest == alone.params_digest
        digests.append(shared.params_digest)
    assert digests[0] != digests[1]
    assert session.program(chosen).compiled.traces == 1


def test_runs_that_differ_in_rates_are_trained_together(session, tmp_path):
    jobs = [
        Job(network_of_rate(rate), 0, tmp_path / name, name)
        for name, rate in (("a", 1.0), ("b", 0.1))
    ]
    results = loop.train(session, jobs, replica_axis=[job.key for job in jobs])
    for job, result in zip(jobs, results, strict=True):
        alone = train_alone(session, job.config, 0, tmp_path / f"{job.arm} alone")
        assert result.validation.loss == pytest.approx(alone.validation.loss, rel=1e-4)
    losses = [result.validation.loss for result in results]
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)


def network_of_rate(rate):
    return small(training__steps=8, optimizer__groups=[{"pattern": "*", "rate": rate}])


def test_a_run_of_a_version_without_groups_is_resumed():
    stored = small().model_dump(mode="json")
    for field in ("groups", "beta1", "beta2", "epsilon", "rmsprop_decay"):
        del stored["optimizer"][field]
    assert config.changes(stored, small()) == []
