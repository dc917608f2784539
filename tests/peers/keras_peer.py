"""Keras on JAX: python -m tests.peers.keras_peer TASK.json"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from keras import layers

from launch import timing


def conv(x, name, features, kernel=3, strides=1, padding="same", norm=True, epsilon=1e-5):
    x = layers.Conv2D(
        features, kernel, strides, padding, use_bias=not norm, name=f"{name}.conv"
    )(x)  # fmt: skip
    return bn(x, f"{name}.norm", epsilon) if norm else x


def bn(x, name, epsilon=1e-5):
    return layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=name)(x)


def dense(x, name, features, norm=False):
    x = layers.Dense(features, use_bias=not norm, name=f"{name}.dense")(x)
    return bn(x, f"{name}.norm") if norm else x


def relu(x):
    return layers.ReLU()(x)


def lenet(x):
    x = layers.MaxPooling2D()(relu(conv(x, "conv1", 6, 5, norm=False)))
    x = layers.MaxPooling2D()(relu(conv(x, "conv2", 16, 5, padding="valid", norm=False)))
    x = relu(dense(layers.Flatten()(x), "fc1", 120))
    return layers.Dense(10, name="head")(relu(dense(x, "fc2", 84)))


def vgg(x):
    for stage, width in enumerate((32, 64, 128), 1):
        for index in (1, 2):
            x = relu(conv(x, f"conv{stage}_{index}", width))
        x = layers.MaxPooling2D()(x)
    x = relu(dense(layers.Flatten()(x), "fc1", 128, norm=True))
    return layers.Dense(10, name="head")(x)


def resnet(x):
    return blocks(relu(conv(x, "conv1", 16)), (16, 32, 64), 3)


def resnet18(x):
    x = conv(layers.ZeroPadding2D(3)(x), "conv1", 64, 7, 2, padding="valid")
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(relu(x)))
    return blocks(x, (64, 128, 256, 512), 2, projects=True)


def blocks(x, widths, count, projects=False):
    for stage, width in enumerate(widths, 1):
        for block in range(1, count + 1):
            name, strides = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            padded = layers.ZeroPadding2D()(x)
            y = conv(padded, f"{name}.conv1", width, strides=strides, padding="valid")
            y = conv(relu(y), f"{name}.conv2", width)
            if strides == 2 and projects:
                x = conv(x, f"{name}.shortcut", width, 1, 2)
            elif strides == 2:
                missing = (width - x.shape[-1]) // 2
                x = keras.ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (missing, missing)))
            x = relu(layers.Add()([y, x]))
    return layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))


def mixed(x, block, n):
    def branch(x, name, features, kernel):
        return relu(conv(x, f"{block}.{name}", features, kernel, epsilon=1e-3))

    second = branch(branch(x, "branch2_1", n // 2, 1), "branch2_2", n, 3)
    third = branch(branch(x, "branch3_1", n // 2, 1), "branch3_2", n, 5)
    pooled = layers.MaxPooling2D(3, 1, "same")(x)
    branches = [branch(x, "branch1_1", n, 1), second, third, branch(pooled, "branch4_1", n, 1)]
    return layers.Concatenate()(branches)


def inception(x):
    x = relu(conv(x, "conv1", 32, epsilon=1e-3))
    for stage, width in enumerate((16, 32, 64), 1):
        x = layers.MaxPooling2D()(x) if stage > 1 else x
        for index in (1, 2):
            x = mixed(x, f"mixed{stage}_{index}", width)
    return layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))


NETWORKS = {
    "lenet5_modern": lenet,
    "vgg_small": vgg,
    "resnet20": resnet,
    "inception_small": inception,
    "resnet18": resnet18,
}
LEAVES = {"kernel": "kernel", "bias": "bias", "scale": "gamma"}


def main(task):
    if task["precision"] == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    arrays = np.load(task["arrays"])
    images, labels = arrays["images"].astype("float32") / 255, arrays["targets"]
    entry = keras.Input(images.shape[1:])
    model = keras.Model(entry, NETWORKS[task["network"]](entry))
    for key in arrays.files:
        if key.startswith("p/"):
            name, _, leaf = key[2:].rpartition("/")
            layer = model.get_layer(name.replace("/", "."))
            normal = isinstance(layer, layers.BatchNormalization)
            attribute = "beta" if normal and leaf == "bias" else LEAVES[leaf]
            getattr(layer, attribute).assign(arrays[key])
    model.compile(
        optimizer=keras.optimizers.SGD(task["learning_rate"], momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    about = {"version": keras.__version__, "device": jax.devices()[0].device_kind}
    timing.serve(lambda: float(model.train_on_batch(images, labels)), about, timing.peak_jax_bytes)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
