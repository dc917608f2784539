"""Named randomness on the host, the same on every machine and with every NumPy.

A name is a path of words and numbers, such as ("order", seed, epoch). Its SHA-256 keys a Philox
generator, of which only raw 64-bit words are used: NumPy guarantees those, but not the streams of
`Generator.permutation`. Different names give independent streams, so the order of the data does
not change when other code draws one more random number.
"""

import hashlib

import numpy as np

Name = str | int


def words(count: int, *name: Name) -> np.ndarray:
    """`count` uint64 words, uniform, a pure function of `name`."""
    digest = hashlib.sha256("/".join(["cnnjax", *map(str, name)]).encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    return np.random.Philox(key=key).random_raw(count).astype(np.uint64, copy=False)


def permutation(count: int, *name: Name) -> np.ndarray:
    """A permutation of 0..count-1, int32 [count], a pure function of `count` and `name`."""
    return np.argsort(words(count, *name), kind="stable").astype(np.int32)


def uniform(count: int, *name: Name) -> np.ndarray:
    """`count` float64 numbers in [0, 1), a pure function of `name`."""
    return (words(count, *name) >> np.uint64(11)) * 2.0**-53
