"""Plain flax linen, as its examples write it: python -m tests.peers.flax_peer TASK.json"""

import json
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training import train_state

from launch import timing


def norm(dtype, epsilon=1e-5):
    return nn.BatchNorm(
        use_running_average=False, momentum=0.9, epsilon=epsilon, dtype=dtype, name="norm"
    )


class Conv(nn.Module):
    features: int
    kernel: int = 3
    strides: int = 1
    padding: str | tuple = "SAME"
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        size = (self.kernel, self.kernel)
        x = nn.Conv(
            self.features, size, self.strides, self.padding, use_bias=not self.norm,
            dtype=self.dtype, name="conv",
        )(x)  # fmt: skip
        if self.norm:
            x = norm(self.dtype, self.epsilon)(x)
        return x


class Dense(nn.Module):
    features: int
    norm: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.features, use_bias=not self.norm, dtype=self.dtype, name="dense")(x)
        if self.norm:
            x = norm(self.dtype)(x)
        return x


def pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


class Lenet(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        conv = {"kernel": 5, "norm": False, "dtype": self.dtype}
        x = pool(nn.relu(Conv(6, **conv, name="conv1")(x)))
        x = pool(nn.relu(Conv(16, **conv, padding="VALID", name="conv2")(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(120, dtype=self.dtype, name="fc1")(x))
        x = nn.relu(Dense(84, dtype=self.dtype, name="fc2")(x))
        return nn.Dense(10, dtype=self.dtype, name="head")(x)


class Vgg(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        for stage, width in enumerate((32, 64, 128), 1):
            for index in (1, 2):
                x = nn.relu(Conv(width, dtype=self.dtype, name=f"conv{stage}_{index}")(x))
            x = pool(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(128, norm=True, dtype=self.dtype, name="fc1")(x))
        return nn.Dense(10, dtype=self.dtype, name="head")(x)


class Block(nn.Module):
    features: int
    strides: int
    dtype: jnp.dtype
    projects: bool = False

    @nn.compact
    def __call__(self, x):
        around = ((1, 1), (1, 1))
        first = Conv(
            self.features, strides=self.strides, padding=around, dtype=self.dtype, name="conv1"
        )
        y = nn.relu(first(x))
        y = Conv(self.features, dtype=self.dtype, name="conv2")(y)
        if self.strides == 2 and self.projects:
            shortcut = Conv(self.features, 1, 2, dtype=self.dtype, name="shortcut")
            x = shortcut(x)
        elif self.strides == 2:
            missing = (self.features - x.shape[-1]) // 2
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (missing, missing)))
        return nn.relu(y + x)


class Resnet(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(16, dtype=self.dtype, name="conv1")(x))
        for stage, width in enumerate((16, 32, 64), 1):
            for block in (1, 2, 3):
                strides = 2 if stage > 1 and block == 1 else 1
                x = Block(width, strides, self.dtype, name=f"stage{stage}_block{block}")(x)
        return nn.Dense(10, dtype=self.dtype, name="head")(x.mean((1, 2)))


class Resnet18(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        stem = Conv(64, 7, 2, ((3, 3), (3, 3)), dtype=self.dtype, name="conv1")
        x = nn.max_pool(nn.relu(stem(x)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, width in enumerate((64, 128, 256, 512), 1):
            for block in (1, 2):
                strides, name = 2 if stage > 1 and block == 1 else 1, f"stage{stage}_block{block}"
                x = Block(width, strides, self.dtype, projects=True, name=name)(x)
        return nn.Dense(10, dtype=self.dtype, name="head")(x.mean((1, 2)))


class Bottleneck(nn.Module):
    features: int
    strides: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        y = nn.relu(Conv(self.features, 1, dtype=self.dtype, name="conv1")(x))
        around = ((1, 1), (1, 1))
        y = Conv(self.features, 3, self.strides, around, dtype=self.dtype, name="conv2")(y)
        y = Conv(4 * self.features, 1, dtype=self.dtype, name="conv3")(nn.relu(y))
        if x.shape[-1] != 4 * self.features:
            x = Conv(4 * self.features, 1, self.strides, dtype=self.dtype, name="shortcut")(x)
        return nn.relu(y + x)


class Resnet50(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        stem = Conv(64, 7, 2, ((3, 3), (3, 3)), dtype=self.dtype, name="conv1")
        x = nn.max_pool(nn.relu(stem(x)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            for block in range(1, blocks + 1):
                strides, name = 2 if stage > 1 and block == 1 else 1, f"stage{stage}_block{block}"
                x = Bottleneck(width, strides, self.dtype, name=name)(x)
        return nn.Dense(10, dtype=self.dtype, name="head")(x.mean((1, 2)))


class Mixed(nn.Module):
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        n = self.features

        def conv(x, name, features, kernel):
            return nn.relu(Conv(features, kernel, dtype=self.dtype, epsilon=1e-3, name=name)(x))

        second = conv(conv(x, "branch2_1", n // 2, 1), "branch2_2", n, 3)
        third = conv(conv(x, "branch3_1", n // 2, 1), "branch3_2", n, 5)
        pooled = nn.max_pool(x, (3, 3), padding="SAME")
        branches = conv(x, "branch1_1", n, 1), second, third, conv(pooled, "branch4_1", n, 1)
        return jnp.concatenate(branches, -1)


class Inception(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(32, dtype=self.dtype, epsilon=1e-3, name="conv1")(x))
        for stage, width in enumerate((16, 32, 64), 1):
            x = pool(x) if stage > 1 else x
            for index in (1, 2):
                x = Mixed(width, self.dtype, name=f"mixed{stage}_{index}")(x)
        return nn.Dense(10, dtype=self.dtype, name="head")(x.mean((1, 2)))


class Decoder(nn.Module):
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, skip):
        up = nn.ConvTranspose(self.features, (2, 2), (2, 2), dtype=self.dtype, name="upsample")
        x = jnp.concatenate([up(x), skip], -1)
        for name in ("conv1", "conv2"):
            x = nn.relu(Conv(self.features, norm=False, dtype=self.dtype, name=name)(x))
        return x


class Unet(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        skips, widths = [], (16, 32, 64, 128)
        for level, width in enumerate(widths, 1):
            x = pool(x) if level > 1 else x
            for index in (1, 2):
                name = f"conv{level}_{index}"
                x = nn.relu(Conv(width, norm=False, dtype=self.dtype, name=name)(x))
            skips.append(x)
        for number, level in enumerate((3, 2, 1), 1):
            decoder = Decoder(widths[level - 1], self.dtype, name=f"decoder{number}")
            x = decoder(x, skips[level - 1])
        return nn.Conv(10, (1, 1), dtype=self.dtype, name="head")(x)


NETWORKS = {
    "lenet5_modern": Lenet,
    "vgg_small": Vgg,
    "resnet20": Resnet,
    "inception_small": Inception,
    "resnet18": Resnet18,
    "resnet50": Resnet50,
    "unet": Unet,
}


class TrainState(train_state.TrainState):
    batch_stats: dict


@jax.jit
def train_step(state, images, labels):
    def loss_fn(params):
        logits, updates = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats}, images, mutable=["batch_stats"]
        )
        known = labels != 255
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits.astype("float32"), jnp.where(known, labels, 0)
        )
        return losses.mean(where=known), updates

    (loss, updates), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = state.apply_gradients(grads=grads)
    return state.replace(batch_stats=updates.get("batch_stats", {})), loss


def main(task):
    arrays = np.load(task["arrays"])
    images = jnp.asarray(arrays["images"], jnp.float32) / 255
    labels = jnp.asarray(arrays["targets"], jnp.int32)
    network = NETWORKS[task["network"]](dtype=jnp.dtype(task["precision"]))
    fresh = jax.eval_shape(network.init, jax.random.key(0), images[:2])
    statistics = jax.jit(lambda key: network.init(key, images[:2]).get("batch_stats", {}))
    given = {key[2:]: arrays[key] for key in arrays.files if key.startswith("p/")}
    for key in given:
        if key.endswith("upsample/kernel"):  # a transposed convolution here flips its kernel
            given[key] = given[key][::-1, ::-1]
    params = flax.traverse_util.unflatten_dict(given, sep="/")
    assert jax.tree.map(np.shape, fresh["params"]) == jax.tree.map(np.shape, params)
    state = TrainState.create(
        apply_fn=network.apply,
        params=jax.tree.map(jnp.asarray, params),
        batch_stats=statistics(jax.random.key(0)),
        tx=optax.sgd(task["learning_rate"], momentum=0.9),
    )

    def step():
        nonlocal state
        state, loss = train_step(state, images, labels)
        return float(loss)

    about = {"version": flax.__version__, "device": jax.devices()[0].device_kind}
    timing.serve(step, about, timing.peak_jax_bytes)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
