"""Prepares a data set in the user's cache.

python -m launch.prepare --data=NAME [--data_dir=DIR]

A data set is otherwise prepared on first use. Original archives in DIR are used instead of a
download.
"""

from collections.abc import Sequence

from cnnjax import paths
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Prepares; returns the exit code."""
    flags.no_arguments(arguments)
    from cnnjax import data
    from cnnjax.config import Data

    name = paths.data_name(flags.require("data"))
    path = data.prepare(name, flags.FLAGS.data_dir)
    print(f"prepared: {path}" if path else f"{name}: needs no preparing")
    print("".join(f"{line}\n" for line in data.describe([Data(name=name)])), end="")
    return 0


if __name__ == "__main__":
    flags.start("prepare", main)
