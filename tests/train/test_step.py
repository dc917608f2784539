import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Optimizer, override, resolve
from cnnjax.tasks import classification
from cnnjax.train import optim, state, step
from common import small


class Linear(nn.Module):
    """Logits = x w, no frills, so that a step can be computed by hand."""

    @nn.compact
    def __call__(self, x, *, train, keep_prob=None):
        x = x.reshape(x.shape[0], -1)
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if train:
            mean.value = 0.9 * mean.value + 0.1 * x.mean()
        return nn.Dense(2, use_bias=False, name="fc", kernel_init=nn.initializers.zeros)(x)


BATCH = {
    "images": np.array([[[[255]]], [[[0]]]], np.uint8),
    "label": np.array([0, 1], np.int32),
}


def numbers(rate=1.0, **fields):
    keys = state.keys(0)
    defaults = {"weight_decay": 0.0, "keep_prob": 1.0, "label_smoothing": 0.0, **fields}
    return state.HParams(
        learning_rate=rate, augment_key=keys["augment"], dropout_key=keys["dropout"], **defaults
    )


def one_step(ema_decay=None, **fields):
    make = optim.optimizer(Optimizer(name="sgd"))
    module = Linear()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1)), train=False)
    before = state.create(variables, make, averaged=ema_decay is not None)
    run = step.train_step(
        module,
        classification.TASK,
        make,
        augment=lambda keys, *batch: batch,
        normalize=lambda x: x,
        ema_decay=ema_decay,
    )
    return jax.jit(run)(before, BATCH, numbers(**fields))


def test_a_step_by_hand():
    after, metrics = one_step(rate=0.5)
    assert float(metrics["loss"]) == pytest.approx(np.log(2))
    # d loss / d w = x (softmax - onehot) / B; the first image is 1.0, the second 0.0
    np.testing.assert_allclose(after.params["fc"]["kernel"], [[0.125, -0.125]])
    assert int(after.step) == 1
    assert float(after.batch_stats["mean"]) == pytest.approx(0.05)
    assert bool(metrics["finite"])
    assert float(metrics["accuracy"]) == 0.5


def test_label_smoothing_by_hand():
    after, metrics = one_step(rate=0.5, label_smoothing=0.2)
    assert float(metrics["loss"]) == pytest.approx(np.log(2))
    np.testing.assert_allclose(after.params["fc"]["kernel"], [[0.1, -0.1]], rtol=1e-6)
    logits = jnp.array([[2.0, 0.0]])
    smooth = classification.cross_entropy(logits, {"label": jnp.array([0])}, 0.2)
    p = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()
    np.testing.assert_allclose(smooth, [-(0.9 * np.log(p[0]) + 0.1 * np.log(p[1]))], rtol=1e-6)


def test_averages_hold_parameters_and_statistics():
    after, _ = one_step(ema_decay=0.75, rate=0.5)
    np.testing.assert_allclose(after.ema.params["fc"]["kernel"], [[0.125 / 4, -0.125 / 4]])
    assert float(after.ema.batch_stats["mean"]) == pytest.approx(0.05 / 4)
    assert after.variables["params"] is after.ema.params


def test_a_loss_that_is_not_finite_is_detected():
    _, metrics = one_step(label_smoothing=np.float32("nan"))
    assert not bool(metrics["finite"])


def test_logits_that_are_not_finite_are_wrong():
    logits = jnp.array([[jnp.nan, 0.0], [1.0, 0.0], [jnp.inf, 0.0]])
    right = classification.correct(logits, {"label": jnp.zeros(3, int)})
    np.testing.assert_array_equal(right, [0, 1, 0])


def test_the_digest_depends_on_every_byte_name_and_dtype_but_not_on_order():
    params = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    digest = state.digest(params)
    assert state.digest({"b": params["b"], "a": params["a"]}) == digest
    others = [
        {"a": jnp.ones(3).at[1].set(1 + 1e-7), "b": params["b"]},
        {"a": jnp.ones(3), "c": params["b"]},
        {"a": jnp.ones(3, jnp.bfloat16), "b": params["b"]},
        {"a": jnp.ones((3, 1)), "b": params["b"]},
    ]
    assert len({digest, *(state.digest(other) for other in others)}) == 5


def test_named_keys_differ_from_each_other_and_between_seeds():
    drawn = {
        (seed, name): tuple(jax.random.key_data(key).tolist())
        for seed in (0, 1)
        for name, key in state.keys(seed).items()
    }
    assert len(set(drawn.values())) == len(drawn) == 6


@pytest.fixture(scope="module")
def trained(session):
    """Some steps of the small run on one fixed batch."""
    config = small(
        optimizer__learning_rate=0.1,
        model__name="lenet5_modern",
        model__hidden=None,
        data__image_size=16,
    )
    dataset = session.dataset(config, 0)
    program = session.program(config)
    current = session.initial_state(config, program, dataset, 0)
    store, hparams = session.store(config, program), session.hparams(config, 0, program)
    batch = next(iter(dataset.train_batches(0, 1)))
    losses, traces = [], []
    for _ in range(6):
        traces.append(program.compiled.traces)
        current, metrics = program.compiled.train(current, store, batch, hparams)
        losses.append(float(metrics["loss"]))
    return losses, [*traces, program.compiled.traces]


def test_steps_on_a_fixed_batch_lower_the_loss(trained):
    losses, _ = trained
    assert losses[-1] < 0.7 * losses[0]


def test_the_step_is_traced_exactly_once(trained):
    """At the first step, unless another test of this process has taken one of this shape."""
    before, first, *later = trained[1]
    assert first - before in (0, 1)
    assert set(later) == {first}
    assert first >= 1


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"optimizer.learning_rate": 0.3}, True),
        ({"optimizer.weight_decay": 0.1}, True),
        ({"training.label_smoothing": 0.1}, True),
        ({"training.epochs": 99}, True),
        ({"schedule.name": "constant"}, True),
        ({"data.train_examples": 200}, True),
        ({"evaluation.every_epochs": 3}, True),
        ({"model.dropout.keep_prob": 0.9}, False),
        ({"model.activation": "tanh"}, False),
        ({"optimizer.name": "adam"}, False),
        ({"training.ema_decay": 0.9}, False),
        ({"data.augmentation.shift_pixels": 1}, False),
        ({"data.normalize": "centered"}, False),
    ],
    ids=str,
)
def test_arms_that_differ_in_numbers_share_one_program(session, changes, shared):
    config = small()
    other = resolve(override(config, changes))
    assert (session.program(config) is session.program(other)) is shared


def test_initialisers_share_the_compiled_steps_but_not_the_initial_values(session):
    configs = [small(model__initializer=name) for name in ("he_normal", "zeros")]
    programs = [session.program(config) for config in configs]
    assert programs[0].compiled is programs[1].compiled
    key = state.keys(0)["params"]
    sizes = [
        max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(program.initialize(key)))
        for program in programs
    ]
    assert sizes[0] > 0
    assert sizes[1] == 0


def test_two_keep_probs_share_one_program_and_one_trace_and_give_other_losses(session):
    configs = [small(model__dropout__keep_prob=keep) for keep in (0.9, 0.3)]
    program = session.program(configs[0])
    assert session.program(configs[1]) is program
    losses = []
    for config in configs:
        dataset = session.dataset(config, 0)
        current = session.initial_state(config, program, dataset, 0)
        batch = next(iter(dataset.train_batches(0, 1)))
        store, hparams = session.store(config, program), session.hparams(config, 0, program)
        _, metrics = program.compiled.train(current, store, batch, hparams)
        losses.append(float(metrics["loss"]))
    assert losses[0] != losses[1]
    assert program.compiled.traces == 1


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_state(session):
    config = small(training__precision="bfloat16", model__norm__kind="batch")
    program, dataset = session.program(config), session.dataset(config, 0)
    current = session.initial_state(config, program, dataset, 0)
    batch = next(iter(dataset.train_batches(0, 1)))
    after, metrics = program.compiled.train(
        current, session.store(config, program), batch, session.hparams(config, 0, program)
    )
    floats = [leaf for leaf in jax.tree.leaves(after) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    assert metrics["loss"].dtype == jnp.float32
    assert dataclasses.replace(program).module.backbone.ingredients.dtype == jnp.bfloat16
