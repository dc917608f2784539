"""The precision of float32 products on an accelerator, and deterministic programs.

These tests need no accelerator. The session claims to have a GPU: its programs are traced as for a
GPU, and compiled for the CPU by XLA, which accepts the options of all its backends.
"""

import dataclasses
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ablation import results
from cnnjax.analysis import probes
from cnnjax.errors import UserError
from cnnjax.train import numerics, probe
from cnnjax.train.session import Session
from common import small, train_alone, variables

CONVOLUTIONAL = {
    "model__name": "lenet5_modern",
    "model__hidden": None,
    "data__image_size": 32,
    "training__cpu_convolution": "xla",
}


@pytest.fixture
def gpu():
    """A session that takes the CPU for a GPU."""
    session = Session()
    session.runtime["backend"] = "gpu"
    return session


def twice(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), tree)


def steps(session, config):
    """What goes to XLA: the train step, alone and of two runs, once and twice in a call, and the
    eval step."""
    program, dataset = session.program(config), session.dataset(config, 0)
    fresh = variables(program.module, dataset.spec.image_shape)
    state, hparams = program.create(fresh), session.hparams(config, 0, program)
    store, batch = session.store(config, program), next(iter(dataset.train_batches(0, 1)))
    rates = dataclasses.replace(hparams, learning_rate=np.zeros(2, np.float32))
    states, numbers, two_rates, batches = map(twice, (state, hparams, rates, batch))
    compiled = program.compiled
    return {
        "train": compiled.train.lower(state, store, batch, hparams),
        "train_steps": compiled.train_steps.lower(state, store, batches, rates),
        "together": compiled.train_replicas.lower(states, store, batches, numbers),
        "steps": compiled.train_replicas_steps.lower(states, store, twice(batches), two_rates),
        "evaluate": compiled.evaluate.lower(state.variables, store, batch, jnp.float32(1)),
    }


def products(text):
    """The precisions of the operands of all convolutions and matrix products in a program."""
    lines = re.findall(r"stablehlo\.(?:convolution|dot_general)\b.*", text)
    return [re.findall(r"DEFAULT|HIGHEST|HIGH", line) for line in lines]


@pytest.mark.parametrize("asked", ["default", "high", "highest"])
def test_every_product_forward_backward_and_evaluated_has_the_precision_asked_for(gpu, asked):
    programs = steps(gpu, small(**CONVOLUTIONAL, training__matmul_precision=asked))
    both = [asked.upper()] * 2
    # Of 5 layers: forward, by the weights, and by the input but for that of the first.
    for name, step in programs.items():
        assert products(step.as_text()) == [both] * (5 if name == "evaluate" else 14)


def test_programs_of_a_cpu_do_not_depend_on_the_fields(session):
    asked = {"training__matmul_precision": "highest", "training__deterministic": True}
    plain, other = (steps(session, small(**CONVOLUTIONAL, **each)) for each in ({}, asked))
    for name, step in plain.items():
        assert step.as_text() == other[name].as_text()
        assert {each for pair in products(step.as_text()) for each in pair} <= {"DEFAULT"}


@pytest.mark.parametrize("change", [{"matmul_precision": "highest"}, {"deterministic": True}])
def test_runs_that_differ_in_them_share_no_program(session, change):
    other = small(**{f"training__{name}": value for name, value in change.items()})
    assert session.steps_key(small()) != session.steps_key(other)


def test_only_programs_for_a_gpu_get_options():
    assert numerics.compiler_options("gpu", True) == {"xla_gpu_deterministic_ops": True}
    for backend, asked in [("gpu", False), ("tpu", True), ("cpu", True)]:
        assert numerics.compiler_options(backend, asked) == {}


def test_on_a_cpu_nothing_is_traced_otherwise_by_probes_either():
    with numerics.precision(numerics.FLOAT32):
        assert jax.config.jax_default_matmul_precision is None
    with numerics.precision("highest"):
        assert jax.config.jax_default_matmul_precision == "highest"


def test_xla_takes_the_option_that_is_meant(gpu):
    for step in steps(gpu, small(training__deterministic=True)).values():
        assert step.compile()


def test_the_options_reach_every_program_of_a_run(gpu, monkeypatch):
    unknown = {"xla_gpu_no_such_option": True}
    monkeypatch.setattr(numerics, "compiler_options", lambda *_: unknown)
    config = small(training__deterministic=True)
    start = gpu.program(config).initialize.lower(jax.random.key(0))
    for step in [start, *steps(gpu, config).values()]:
        with pytest.raises(jax.errors.JaxRuntimeError, match="xla_gpu_no_such_option"):
            step.compile()


def test_a_deterministic_program_has_no_gradient_that_xla_cannot_make_so(gpu):
    """XLA's error: HLO instruction select-and-scatter does not have a deterministic implementation,
    but run-to-run determinism is required by --xla_gpu_deterministic_ops."""
    for asked in (False, True):
        text = steps(gpu, small(**CONVOLUTIONAL, training__deterministic=asked))["train"].as_text()
        assert ("select_and_scatter" in text) != asked


def test_pmap_cannot_be_deterministic():
    with pytest.raises(
        UserError, match=r"training.deterministic: true needs training.parallel=jit"
    ):
        small(training__deterministic=True, training__parallel="pmap")


@pytest.mark.parametrize(
    ("backend", "asked", "recorded"),
    [
        ("cpu", ("highest", False), ("float32", True)),
        ("gpu", ("highest", False), ("highest", False)),
        ("gpu", ("high", True), ("high", True)),
        ("tpu", ("default", True), ("default", False)),
    ],
)
def test_the_resolved_precision_is_recorded(backend, asked, recorded):
    training = small(training__matmul_precision=asked[0], training__deterministic=asked[1]).training
    assert tuple(numerics.resolve(training, backend).values()) == recorded


def test_what_a_run_computed_with_is_in_its_result_and_stays(gpu, session, tmp_path):
    config = small(training__matmul_precision="highest", training__deterministic=True)
    result = train_alone(gpu, config, 0, tmp_path)
    assert result.status == "finished"
    assert result.runtime["matmul_precision"] == "highest"
    assert result.runtime["deterministic"] is True
    path = tmp_path / "runtime.json"
    settings = json.loads(path.read_text())
    assert result.runtime == {**settings, "jax": jax.__version__}
    path.write_text(json.dumps({**settings, "matmul_precision": "high"}))
    with pytest.raises(UserError, match=r"matmul_precision is 'high' there and 'highest' now"):
        train_alone(gpu, config, 0, tmp_path)


@pytest.mark.parametrize(
    ("asked", "refused"), [("default", None), ("high", "matmul_precision is 'default' there")]
)
def test_a_run_of_a_version_that_did_not_record_it_is_resumed(gpu, tmp_path, asked, refused):
    config = small(training__matmul_precision=asked)
    result = train_alone(gpu, config, 0, tmp_path)
    path = tmp_path / "runtime.json"
    settings = json.loads(path.read_text())
    del settings["matmul_precision"], settings["deterministic"]
    path.write_text(json.dumps(settings))
    if refused:
        with pytest.raises(UserError, match=refused):
            train_alone(gpu, config, 0, tmp_path)
    else:
        assert train_alone(gpu, config, 0, tmp_path).params_digest == result.params_digest


def test_on_a_cpu_it_is_resumed_whatever_the_fields_are(session, tmp_path):
    result = train_alone(session, small(), 0, tmp_path)
    path = tmp_path / "runtime.json"
    settings = json.loads(path.read_text())
    assert (settings.pop("matmul_precision"), settings.pop("deterministic")) == ("float32", True)
    path.write_text(json.dumps(settings))
    config = tmp_path / "config.json"
    stored = json.loads(config.read_text())
    del stored["training"]["matmul_precision"], stored["training"]["deterministic"]
    config.write_text(json.dumps(stored))
    assert train_alone(session, small(), 0, tmp_path).params_digest == result.params_digest


def test_probes_multiply_as_the_run_does(gpu, tmp_path, monkeypatch):
    precisions = []
    plain = nn.Module.apply

    def apply(*args, **kwargs):
        precisions.append(jax.config.jax_default_matmul_precision)
        return plain(*args, **kwargs)

    def endpoints(*args):  # of which only the names are asked for, and nothing is computed
        with numerics.precision("highest"):
            return names_of(*args)

    names_of = probes._endpoints
    monkeypatch.setattr(probes, "_endpoints", endpoints)
    monkeypatch.setattr(nn.Module, "apply", apply)
    names = ("activity", "gradients", "mc_dropout")
    asked = probe.Probes(
        {name: probes.MEASURES[name] for name in names if name in probes.MEASURES},
        {name: probes.SIGNALS[name] for name in names if name in probes.SIGNALS},
    )
    config = small(training__matmul_precision="highest", model__initializer="lsuv")
    train_alone(gpu, config, 0, tmp_path, probes=asked)
    assert len(precisions) >= 5  # of the steps, the probes and lsuv
    assert set(precisions) == {"highest"}


def test_runs_of_mixed_precision_are_flagged():
    class Run:
        scored, config = True, {}

        def __init__(self, precision):
            self.runtime = {"matmul_precision": precision, "deterministic": False, "data": {}}

    assert results.setting_differences([Run("high"), Run("high")]) == []
    told = ["Runs differ in matmul_precision: default, high."]
    assert results.setting_differences([Run("high"), Run("default")]) == told
