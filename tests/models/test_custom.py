"""Networks of the user's own: their forms, and the examples of the documentation."""

import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from cnnjax import models
from cnnjax.analysis import layers
from cnnjax.config import RunConfig, create, override, resolve
from cnnjax.errors import location
from cnnjax.models import custom
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.upsampling import bilinear
from cnnjax.train import state
from cnnjax.train.session import Session
from common import ROOT, program, train_alone

IMAGES = jnp.ones((2, 8, 8, 1))
EXAMPLES = re.findall(
    r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs/own_models.md").read_text(), re.DOTALL
)


class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, deterministic=True):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        x = nn.BatchNorm(use_running_average=deterministic, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=deterministic)(x.reshape(x.shape[0], -1))
        return nn.Dense(self.num_classes, name="head")(x)


class Complete(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, keep_prob=None, capture=()):
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Bare(nn.Module):
    def setup(self):
        self.head = nn.Dense(10)

    def __call__(self, x):
        return self.head(x.reshape(x.shape[0], -1))


def build(level):
    levels = {"model": {"mine": level}}
    config = override(RunConfig(), {"model.name": "mine"}, levels)
    return models.build(config.model, image_shape=(8, 8, 1), num_outputs=10, levels=levels)


@pytest.mark.parametrize(
    "level",
    [
        Net,
        Net(10),
        lambda: Net(),
        lambda num_classes: Net(num_classes),
        lambda classes, image_shape: Net(classes),
        lambda make, classes, shape: Net(classes),
    ],
)
def test_every_form_of_a_plain_module(level):
    module = build(level)
    variables = module.init(jax.random.key(0), IMAGES, train=False)
    plain = Net().init(jax.random.key(0), IMAGES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain)
    logits = module.apply(variables, IMAGES, train=False, keep_prob=0.3)
    np.testing.assert_array_equal(logits, Net().apply(variables, IMAGES))
    rngs = {"dropout": jax.random.key(1)}
    trained, updates = module.apply(
        variables, IMAGES, train=True, keep_prob=1.0, rngs=rngs, mutable=["batch_stats"]
    )
    assert not np.array_equal(trained, logits)
    assert list(updates["batch_stats"]) == ["norm"]


def test_its_layers_are_endpoints_and_are_inspected():
    module = build(Net)
    assert models.describe(module, (8, 8, 1)) == {
        "conv": (8, 8, 4), "norm": (8, 8, 4), "Dropout_0": (256,), "head": (10,),
    }  # fmt: skip
    by_name = {layer.name: layer for layer in layers.layers(module, (8, 8, 1))}
    assert list(by_name) == ["conv", "norm", "head"]
    assert (by_name["conv"].parameters, by_name["head"].multiply_adds) == (40, 2560)


def test_a_module_without_a_training_argument_and_a_complete_one():
    assert models.describe(build(Bare), (8, 8, 1)) == {"head": (10,)}
    assert not isinstance(build(lambda make, num_classes, shape: Complete()), custom.Adapted)


def test_a_level_that_is_not_a_module_is_an_error():
    with pytest.raises(TypeError, match=r"model level: 5 is not a flax\.linen module"):
        build(lambda: 5)


@pytest.mark.parametrize(
    ("output", "description"),
    [
        (lambda x: x[:, :3], r"float\[2, 3\]"),
        (lambda x: (x, x), "a tuple"),
        (lambda x: x.astype(int), r"int32\[2, 10\]"),
    ],
)
def test_outputs_that_are_not_logits_are_an_error(output, description):
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x):
            return output(nn.Dense(10)(x.reshape(len(x), -1)))

    module = custom.Adapted(Odd())
    shapes = jax.eval_shape(lambda: state.initial_variables(module, (4, 4, 1), jax.random.key(0)))
    with pytest.raises(
        ValueError, match=rf"gives {description} for two images; its task asks for float\[2, 10"
    ):
        state.check_outputs(module, shapes, (4, 4, 1), (10,), train=True)


def test_a_network_without_parameters_is_an_error():
    with pytest.raises(ValueError, match="has no parameters"):
        state.check_outputs(custom.Adapted(nn.Sequential([])), {}, (4, 4, 1), (10,), train=True)


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_examples_of_the_documentation_are_trained(name, text, tmp_path):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    loaded = experiments.load(str(path))
    session = Session(levels=loaded.levels)
    arm = list(loaded.experiment.arms)[-1]
    config = loaded.experiment.config(arm, {"training.steps": 40}, loaded.levels)
    session.check(config)
    result = train_alone(session, config, 0, tmp_path / "run")
    assert result.status == "finished"
    assert result.validation.get("accuracy") > 0.3


def test_there_are_two_examples_and_an_arm_is_drawn(tmp_path):
    assert [name for name, _ in EXAMPLES] == ["plain", "composed"]
    path = tmp_path / "plain.py"
    path.write_text(EXAMPLES[0][1])
    done = program("launch.inspect", f"--experiment={path}", "--arm=norm")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:6]] == [
        "conv1", "norm1", "conv2", "norm2", "head",
    ]  # fmt: skip
    path.write_text(EXAMPLES[0][1].replace("channels, (3", "'4', (3"))
    done = program("launch.inspect", f"--experiment={path}", "--arm=norm", check=2)
    assert done.stderr.startswith("error: norm: plain.py, line 14: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_network_that_exits_the_program_fails_its_runs():
    def leaves(make, classes, image_shape):
        raise SystemExit(0)

    levels = {"model": {"leaves": leaves}}
    values = {"model": {"name": "leaves"}, "data": {"name": "digits"}}
    config = resolve(create(values, levels), levels)
    with pytest.raises(RuntimeError, match=r"ended the program \(SystemExit: 0\)") as caught:
        Session(levels=levels).program(config)
    assert location(caught.value, Path(__file__).parent).startswith("test_custom.py, line ")


def test_the_decoder_of_the_documentation():
    text = (ROOT / "docs/own_models.md").read_text()
    (code,) = re.findall(r"```python\n(class Pyramid.*?)```", text, re.DOTALL)
    names = {"nn": nn, "jnp": jnp, "Any": Any, "bilinear": bilinear, "ConvBlock": ConvBlock}
    exec(code, names)
    levels = names["LEVELS"]
    changes = {"task": "segmentation", "model.name": "resnet8", "model.decoder": "pyramid"}
    config = resolve(override(RunConfig(), changes, levels), levels).model
    module = models.build(
        config, image_shape=(9, 7, 1), num_outputs=3, per_pixel=True, levels=levels
    )
    outputs, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.ones((2, 9, 7, 1)), train=True)
    )
    assert outputs.shape == (2, 9, 7, 3)
    assert set(variables["params"]["decoder"]) == {"mix"}


@pytest.mark.parametrize("given", [None, 3])
def test_a_decoder_that_is_no_module_is_an_error(given):
    levels = {"decoder": {"mine": lambda ingredients: given}}
    changes = {"task": "segmentation", "model.name": "resnet8", "model.decoder": "mine"}
    config = resolve(override(RunConfig(), changes, levels), levels).model
    with pytest.raises(TypeError, match=f"decoder level: {given} is not a flax.linen module"):
        models.build(config, image_shape=(9, 7, 1), num_outputs=3, per_pixel=True, levels=levels)
