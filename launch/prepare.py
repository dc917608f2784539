"""Prepares a data set in the user's cache, so that training finds it there.

python -m launch.prepare --data=NAME [--data_dir=DIR]

This is done by itself on first use; call it to have it done beforehand. Original archives in DIR
are used instead of a download.
"""

from collections.abc import Sequence

from cnnjax import paths
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Prepares; returns the exit code."""
    flags.nothing_left(arguments)
    from cnnjax import data
    from cnnjax.config import Data

    name = paths.data_name(flags.need("data"))
    place = data.prepare(name, flags.FLAGS.data_dir)
    print(f"prepared: {place}" if place else f"{name}: needs no preparing")
    print("".join(f"{line}\n" for line in data.describe([Data(name=name)])), end="")
    return 0


if __name__ == "__main__":
    flags.define("prepare")
    flags.start(main)
