"""Rebuilds report.html, report.md, results.csv, signals.csv, tables.tex and figures of a study.

python -m launch.report --workdir=DIR [--final]
python -m launch.report --compare DIR1 DIR2 [--output=FILE.html] [--final]

The figures are those of the validation split. With `--final` there is a report on the test split
too, in DIR/final, which is for the end of a study: looks at it are counted in study.json and told
in the report. It stays as it is when the other is written anew; where it is not of all runs that
there are, both say so. `--compare` puts two sweeps side by side, by default in
DIR1/compare-DIR2.html.
"""

from collections.abc import Sequence
from pathlib import Path

from cnnjax import paths
from cnnjax.errors import UserError
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Writes the report; returns the exit code."""
    if flags.FLAGS.compare:
        print(_compare(arguments))
        return 0
    flags.nothing_left(arguments)
    print(write(flags.path("workdir"), final=flags.FLAGS.final))
    return 0


def write(workdir: Path, *, final: bool) -> str:
    """Writes the report of a workdir and says where it is, and what the verdicts are."""
    from cnnjax.ablation import study
    from cnnjax.report import ablation
    from launch.request import command

    if not final:
        written = ablation.write(workdir)
    else:
        study.look(workdir, command())
        written = ablation.write(workdir, final=True)
        ablation.write(workdir)  # so that both are of the same runs
    return "\n".join([*written.lines, f"report: {written.page}"])


def _compare(folders: Sequence[str]) -> str:
    """Writes the page of two sweeps and says where it is."""
    from cnnjax.ablation import study
    from cnnjax.report import comparison
    from launch.request import command

    if len(folders) != 2:
        raise UserError("--compare: takes two folders: --compare DIR1 DIR2")
    first, second = (paths.parse("--compare", folder) for folder in folders)
    for folder in (first, second) if flags.FLAGS.final else ():
        study.look(folder, command())
    output = first / f"compare-{second.resolve().name}.html"
    if flags.FLAGS.output:
        output = flags.path("output").with_suffix(".html")
    return f"report: {comparison.write(first, second, output, final=flags.FLAGS.final)}"


if __name__ == "__main__":
    flags.define("report")
    flags.start(main)
