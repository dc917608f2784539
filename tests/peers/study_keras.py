"""One arm of tests.peers.studies as plain Keras on JAX: FILE RATE SEED [SEED ...]"""

import os
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from tests.peers import study_data
from tests.peers.keras_peer import lenet


def arrays(data, split):
    images = data[f"{split}_images"].astype(np.float32) / 255
    return (images - images.mean()) / images.std(), data[f"{split}_labels"]


def main():
    data, rate, seeds = study_data.arguments()
    splits = {split: arrays(data, split) for split in ("train", "validation", "test")}
    images, labels = splits["train"]
    for seed in seeds:
        started = time.perf_counter()
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(images.shape[1:])
        network = keras.Model(inputs, lenet(inputs))
        steps = len(labels) // study_data.BATCH
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
        network.compile(
            keras.optimizers.SGD(schedule, study_data.MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        network.fit(images, labels, batch_size=study_data.BATCH, epochs=1, verbose=0)
        found = {
            split: network.evaluate(*splits[split], batch_size=500, verbose=0)[1]
            for split in ("validation", "test")
        }
        with tempfile.TemporaryDirectory() as folder:
            network.save_weights(Path(folder) / "model.weights.h5")
        study_data.say(seed, found, started)


if __name__ == "__main__":
    main()
