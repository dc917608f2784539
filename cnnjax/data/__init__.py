"""Data sets: what they are (`spec`), where they come from (`source`), how they become batches.

`load` finds, decodes and splits a data set once; `Loaded.for_seed` gives the batches of one run.
`inputs` and `augment` run on the device. They need jax and are not imported here.
"""

from cnnjax.data.dataset import Dataset, Loaded, load
from cnnjax.data.description import describe
from cnnjax.data.order import Order
from cnnjax.data.source import prepare
from cnnjax.data.spec import DatasetSpec, Split

__all__ = [
    "Dataset",
    "DatasetSpec",
    "Loaded",
    "Order",
    "Split",
    "describe",
    "load",
    "prepare",
]
