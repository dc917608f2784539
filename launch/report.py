"""Rebuilds report.html, report.md and results.csv of a study from its result files.

python -m launch.report --workdir=DIR [--final]

The figures are those of the validation split; with `--final` those of the test split, which is for
the end of a study: looks at it are counted in study.json and told in the report.
"""

from collections.abc import Sequence
from pathlib import Path

from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Writes the report; returns the exit code."""
    flags.nothing_left(arguments)
    print(write(Path(flags.need("workdir")).expanduser(), final=flags.FLAGS.final))
    return 0


def write(workdir: Path, *, final: bool) -> str:
    """Writes the report of a workdir and says where it is, and what the verdicts are."""
    from cnnjax.ablation import study
    from cnnjax.report import ablation
    from launch.request import command

    if final:
        study.look(workdir, command())
    written = ablation.write(workdir, final=final)
    return "\n".join([*written.verdicts, f"report: {written.page}"])


if __name__ == "__main__":
    flags.define("workdir", "final")
    flags.start(main)
