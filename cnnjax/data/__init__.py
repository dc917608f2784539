"""Data sets: what they are (`spec`), where they come from (`source`), what is to be predicted
(`targets`), how they become batches.

`load` finds, decodes and splits a data set once; `LoadedData.for_seed` gives the batches of a run.
`inputs` and `augment` run on the device. They need jax and are not imported here.
"""

from cnnjax.data.dataset import Dataset, LoadedData, load
from cnnjax.data.description import describe
from cnnjax.data.order import Order
from cnnjax.data.source import prepare
from cnnjax.data.spec import DatasetSpec

__all__ = [
    "Dataset",
    "DatasetSpec",
    "LoadedData",
    "Order",
    "describe",
    "load",
    "prepare",
]
