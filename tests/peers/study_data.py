"""What the plain scripts of tests.peers.studies share: images, batches and the learning rate."""

import math
import sys
import time

import numpy as np

BATCH, MOMENTUM = 128, 0.9


def arguments():
    """(npz file, learning rate of the arm, seeds) from the command line."""
    file, rate, *seeds = sys.argv[1:]
    return np.load(file), float(rate), [int(seed) for seed in seeds]


def batches(count, seed):
    """The positions of every batch of one epoch; the last, partial one is dropped."""
    order = np.random.default_rng(seed).permutation(count)
    return [order[start : start + BATCH] for start in range(0, count - BATCH + 1, BATCH)]


def rates(peak, steps):
    """A cosine from `peak` to zero."""
    return [peak * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def say(seed, accuracies, started):
    """A run's line."""
    figures = ", ".join(f"{name} {100 * value:.2f} %" for name, value in accuracies.items())
    print(f"seed {seed}: {figures} ({time.perf_counter() - started:.1f} s)", flush=True)
