"""Intervals for a population of images as well as of seeds.

The paired t interval over seeds is for this test set only. If each run's result on every image is
known, the difference d[s, i] of two arms in seed s on image i is modelled as

    d[s, i] = mean + seed part[s] + image part[i] + rest[s, i]

with independent parts; the variance of the mean over both is estimated from the mean squares of
this two-way layout. Source: Satterthwaite 1946, "An approximate distribution of estimates of
variance components"; Searle, Casella and McCulloch 1992, "Variance Components", chapter 4.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats

from cnnjax.metric import UNBOUNDED, Ends


@dataclass(frozen=True)
class Population:
    """A mean difference for the population of images and seeds, a fraction, with its 95%
    interval."""

    mean: float
    low: float
    high: float


def population(differences: np.ndarray, ends: Ends = UNBOUNDED) -> Population | None:
    """The mean of `differences` [seeds, images], each between `ends`, with a 95% interval; None
    with fewer than 2 seeds or images.

    The interval is never narrower than the one over seeds alone, or over images alone.
    """
    seeds, images = differences.shape
    if seeds < 2 or images < 2:
        return None
    values = differences.astype(np.float64)
    mean = float(values.mean())
    by_seed, by_image = values.mean(axis=1), values.mean(axis=0)
    square_seed = images * float(np.sum((by_seed - mean) ** 2)) / (seeds - 1)
    square_image = seeds * float(np.sum((by_image - mean) ** 2)) / (images - 1)
    rest = values - by_seed[:, None] - by_image[None, :] + mean
    df_rest = (seeds - 1) * (images - 1)
    square_rest = float(np.sum(rest**2)) / df_rest
    total = max(0.0, square_seed + square_image - square_rest)
    parts = square_seed**2 / (seeds - 1) + square_image**2 / (images - 1) + square_rest**2 / df_rest
    df = max(1.0, total**2 / parts) if parts else 1.0
    cell = math.sqrt(seeds * images)
    squares = ((total, df), (square_seed, seeds - 1), (square_image, images - 1))
    half = max(
        float(scipy.stats.t.ppf(0.975, degrees)) * math.sqrt(square) / cell
        for square, degrees in squares
    )
    return Population(mean, max(mean - half, ends[0]), min(mean + half, ends[1]))
