"""Errors of a device that has too little memory.

XLA reports them with the status RESOURCE_EXHAUSTED, in words that differ by backend and version,
and on a GPU only when the result is read.
"""

import contextlib
import re
from collections.abc import Iterator

import jax

from cnnjax.config import ResolvedConfig
from cnnjax.errors import OutOfMemory

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZES = (
    r"\((\d+)B\)",  # Failed to allocate request for 6.27GiB (6727663616B) on device ordinal 0
    r"allocat\w+ ([\d.]+) ?([KMGT]?)(?:iB|B|bytes?)",  # Out of memory while trying to allocate ...
    r"Used ([\d.]+)([KMGT]?) of",  # Ran out of memory in memory space hbm. Used 21.95G of 15.48G
)


def requested_bytes(error: BaseException) -> float | None:
    """The bytes that could not be allocated on a device; 0 where the error does not say how many,
    and None where it is another error."""
    text = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in text:
        return None
    for pattern in _SIZES:
        if match := re.search(pattern, text):
            return float(match[1]) * _UNITS[(*match.groups(), "")[1]]
    return 0.0


def explain_training(
    config: ResolvedConfig, *, runs: int = 1
) -> contextlib.AbstractContextManager[None]:
    """`explain` for the training of a configuration by `runs` runs that take their steps
    together."""
    training = config.training
    together = f" of {runs} runs at a time" if runs > 1 else ""
    return explain(
        f"training.batch_size: {training.batch_size}{together}",
        *(["fewer --replicas"] if runs > 1 else []),
        "a smaller training.batch_size",
        *([] if config.model.remat else ["model.remat=true"]),
        *([] if training.precision == "bfloat16" else ["training.precision=bfloat16"]),
    )


@contextlib.contextmanager
def explain(cause: str, *remedies: str) -> Iterator[None]:
    """Raises OutOfMemory for `cause` instead of jax's error that a device has too little memory;
    the message suggests the `remedies`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        size = requested_bytes(error)
        if size is None:
            raise
        requested = f" ({size / 1e9:,.2f} GB were asked for)" if size else ""
        *first, last = remedies
        remedy = f"{', '.join(first)} or {last}" if first else last
        text = f"{cause}: needs more memory than the device has{requested}; try {remedy}."
        raise OutOfMemory(text) from error
