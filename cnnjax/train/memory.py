"""When a device has no room for what is asked of it.

XLA says so with the status RESOURCE_EXHAUSTED, in words that differ by backend and version, and on
a GPU only when the result is looked at.
"""

import contextlib
import re
from collections.abc import Iterator

import jax

from cnnjax.config import RunConfig
from cnnjax.errors import NoRoom

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZES = (
    r"\((\d+)B\)",  # Failed to allocate request for 6.27GiB (6727663616B) on device ordinal 0
    r"allocat\w+ ([\d.]+) ?([KMGT]?)(?:iB|B|bytes?)",  # Out of memory while trying to allocate ...
    r"Used ([\d.]+)([KMGT]?) of",  # Ran out of memory in memory space hbm. Used 21.95G of 15.48G
)


def asked_for(error: BaseException) -> float | None:
    """The bytes that a device was asked for and did not have; 0 where the error does not tell, and
    None where it is another error."""
    text = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in text:
        return None
    for pattern in _SIZES:
        if found := re.search(pattern, text):
            return float(found[1]) * _UNITS[(*found.groups(), "")[1]]
    return 0.0


def explained(config: RunConfig, *, runs: int = 1) -> contextlib.AbstractContextManager[None]:
    """`told` for the training of a configuration, by `runs` that take their steps together."""
    training = config.training
    together = f" of {runs} runs at a time" if runs > 1 else ""
    return told(
        f"training.batch_size: {training.batch_size}{together}",
        *(["fewer --replicas"] if runs > 1 else []),
        "a smaller training.batch_size",
        *([] if config.model.remat else ["model.remat=true"]),
        *([] if training.precision == "bfloat16" else ["training.precision=bfloat16"]),
    )


@contextlib.contextmanager
def told(what: str, *helps: str) -> Iterator[None]:
    """Raises NoRoom for `what` in place of jax's error that a device has no room; `helps` are what
    to try instead."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        size = asked_for(error)
        if size is None:
            raise
        much = f" ({size / 1e9:,.2f} GB were asked for)" if size else ""
        *first, last = helps
        instead = f"{', '.join(first)} or {last}" if first else last
        text = f"{what}: needs more memory than the device has{much}; try {instead}."
        raise NoRoom(text) from error
