"""Rebuilds report.html, report.md and results.csv of a study from its result files.

python -m launch.report --workdir=DIR
"""

from collections.abc import Sequence
from pathlib import Path

from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Writes the report; returns the exit code."""
    flags.nothing_left(arguments)
    from cnnjax.report import ablation

    print(f"report: {ablation.write(Path(flags.need('workdir')).expanduser())}")
    return 0


if __name__ == "__main__":
    flags.define("workdir")
    flags.start(main)
