"""Probes on networks whose answers are known."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import config as configs
from cnnjax import models
from cnnjax.analysis import probes
from cnnjax.data.inputs import to_float
from cnnjax.tasks import classification
from cnnjax.train import evaluation


class ProbeContext:
    """A context that needs no run: `logits` of float images [N, H, W, C] decide."""

    def __init__(self, images, labels, logits=None, module=None, variables=None, keep_prob=1.0):
        self.images, self.labels, self.logits = images, np.asarray(labels), logits
        self.module, self.variables, self.keep_prob, self.seed = module, variables, keep_prob, 0
        self.inputs, self.task = to_float, classification.TASK

    def precision(self):
        return contextlib.nullcontext()

    def evaluate(self, split, change=None):
        images = self.images if change is None else np.asarray(change(jnp.asarray(self.images)))
        logits, targets = np.asarray(self.logits(images), np.float32), {"label": self.labels}
        figures = jax.tree.map(np.asarray, self.task.statistics(logits, targets))
        ids = np.arange(len(images))
        return evaluation.SplitEvaluation(self.task, ids, targets, figures, {"logits": logits})

    def batch(self, split, count):
        return self.images[:count], {"label": self.labels[:count]}


def bright_column(images):
    """Class = the column (0..7) that is brightest: moves with the image to the right."""
    return images[..., 0].sum(1).astype(float)


def columns():
    images = np.zeros((8, 8, 8, 1), np.uint8)
    for column in range(8):
        images[column, :, column] = 255
    return images


def test_shifts_move_right_and_down_and_black_comes_in():
    context = ProbeContext(columns(), range(8), bright_column)
    accuracies = probes.shift(context, "test")
    assert list(accuracies) == [f"shift_{pixels}" for pixels in probes.SHIFTS]
    # Down changes nothing; to the right every class is wrong, but for a column pushed out of an
    # image that is all black then, whose first column is as bright as any: never its own.
    assert accuracies["shift_1"] == accuracies["shift_6"] == 0.5
    assert probes.shift_consistency(context, "test") == {"shift_consistency": 0.5}


def test_what_does_not_look_at_places_is_not_moved_by_shifts():
    images = np.zeros((4, 8, 8, 1), np.uint8)
    images[2:, 2, 2] = 255

    def black_or_not(images):
        black = images.max((1, 2, 3)) == 0
        return np.stack([black, ~black], -1)

    counts = ProbeContext(images, [0, 0, 1, 1], black_or_not)
    assert probes.shift(counts, "test")["shift_5"] == 1.0
    assert probes.shift_consistency(counts, "test") == {"shift_consistency": 1.0}


def test_units_that_are_the_same_are_counted():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5))
    assert probes.twins(kernel) == 0.0
    kernel[..., 4] = kernel[..., 1]
    assert probes.twins(kernel) == pytest.approx(2 / 5)
    assert probes.twins(np.zeros((4, 6))) == 1.0


@pytest.fixture(scope="module")
def stack():
    def made(**fields):
        model = configs.Model(name="stack", depth=4, **fields)
        module = models.build(model, image_shape=(8, 8, 1), num_outputs=3)
        images = np.random.default_rng(1).integers(0, 255, (300, 8, 8, 1), np.uint8)
        variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
        labels = np.arange(300) % 3

        def logits(images):
            return module.apply(variables, images / 255.0, train=False)

        return ProbeContext(images, labels, logits, module, variables, fields.get("keep", 1.0))

    return made


def test_activity_by_hand(stack):
    context = stack()
    activity = probes.activity(context)
    assert list(activity) == ["conv1", "pool1", "conv2", "pool2", "conv3", "mean"]
    images = context.images[:256] / 255.0
    _, features = context.module.apply(context.variables, images, train=False, capture=("conv1",))
    values = np.asarray(features["conv1"])
    assert activity["conv1"]["sd"] == pytest.approx(values.std(), rel=1e-4)
    assert activity["conv1"]["mean"] == pytest.approx(values.mean(), rel=1e-4)
    dead = np.ptp(values.reshape(-1, values.shape[-1]), axis=0) == 0
    assert activity["conv1"]["dead"] == pytest.approx(dead.mean())


def test_units_that_never_fire_are_dead(stack):
    context = stack()
    params = jax.tree.map(np.array, context.variables["params"])
    params["conv2"]["conv"]["bias"][:4] = -1e3
    context.variables = {**context.variables, "params": params}
    assert probes.activity(context)["conv2"]["dead"] >= 4 / 32


def test_gradients_are_those_of_the_loss(stack):
    context = stack()
    gradients = probes.gradients(context)
    assert list(gradients) == ["conv1/conv", "conv2/conv", "conv3/conv", "head"]

    def loss(kernel):
        params = {**context.variables["params"]}
        params["head"] = {**params["head"], "kernel": kernel}
        logits = context.module.apply({"params": params}, context.images[:256] / 255.0, train=False)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), context.labels[:256, None], 1)
        return -chosen.mean()

    kernel = context.variables["params"]["head"]["kernel"]
    expected = np.linalg.norm(jax.grad(loss)(kernel)) / np.linalg.norm(kernel)
    assert gradients["head"]["gradient"] == pytest.approx(float(expected), rel=1e-4)
    assert gradients["head"]["twins"] == 0.0


def test_all_zero_weights_are_twins_without_a_gradient(stack):
    context = stack()
    params = jax.tree.map(np.zeros_like, context.variables["params"])
    context.variables = {**context.variables, "params": params}
    gradients = probes.gradients(context)
    assert {layer["twins"] for layer in gradients.values()} == {1.0}
    assert gradients["conv2/conv"]["gradient"] == 0.0


class Chance(nn.Module):
    """Logits that dropout alone decides: kept units say class 0, else class 1."""

    @nn.compact
    def __call__(self, x, *, train, keep_prob=None, capture=()):
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep_prob, (x.shape[0],))
        return jnp.stack([8.0 * kept, 8.0 * (1 - kept)], -1)


def test_monte_carlo_averages_over_dropout():
    images, labels = np.zeros((300, 2, 2, 1), np.uint8), np.zeros(300, int)
    context = ProbeContext(images, labels, lambda x: np.ones((len(x), 2)), Chance(), {}, 0.9)
    accuracies = probes.mc_dropout(context, "test")
    # The mean of 16 draws at 0.9 is for class 0 all but surely; one draw is right in 90 %.
    assert accuracies["monte_carlo"] > 0.99
    assert accuracies["monte_carlo_gain"] == accuracies["monte_carlo"] - 1.0
