"""Rebuilds report.html, report.md, results.csv, signals.csv, tables.tex and figures of a study.

python -m launch.report --workdir=DIR [--final]
python -m launch.report --compare DIR1 DIR2 [--output=FILE.html] [--final]

The report is on the validation split. `--final` also writes one on the test split, in DIR/final,
for the end of a study: such looks are counted in study.json and listed in the report. The final
report does not change when the other one is written again; if it lacks runs, both say so.
`--compare` puts two sweeps side by side, by default in DIR1/compare-DIR2.html.
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
    flags.no_arguments(arguments)
    print(write(flags.path("workdir"), final=flags.FLAGS.final))
    return 0


def write(workdir: Path, *, final: bool) -> str:
    """Writes the report of a workdir; returns lines with its verdicts and its path."""
    from cnnjax.ablation import study
    from cnnjax.report import ablation
    from launch.request import command

    if final:
        study.count_look(workdir, command())
    written = ablation.write(workdir, final=final)
    if final:
        ablation.write(workdir)  # so that both have the same runs
    return "\n".join([*written.lines, f"report: {written.page}"])


def _compare(folders: Sequence[str]) -> str:
    """Writes the page that compares two sweeps; returns a line with its path."""
    from cnnjax.ablation import study
    from cnnjax.report import comparison
    from launch.request import command

    if len(folders) != 2:
        raise UserError("--compare: takes two folders: --compare DIR1 DIR2")
    first, second = (paths.parse("--compare", folder) for folder in folders)
    for folder in (first, second) if flags.FLAGS.final else ():
        study.count_look(folder, command())
    output = first / f"compare-{second.resolve().name}.html"
    if flags.FLAGS.output:
        output = flags.path("output").with_suffix(".html")
    return f"report: {comparison.write(first, second, output, final=flags.FLAGS.final)}"


if __name__ == "__main__":
    flags.start("report", main)
