"""Runs all arms of an experiment with all its seeds, then writes the report.

python -m launch.sweep --experiment=NAME [--arms=a,b] [--seeds=0-7] --workdir=DIR
    [--workers=N] [--threads=N] [--replicas=N] [--set path=value ...] [--init_from=DIR]
    [--data_dir=DIR] [--plan [--commands [--jobs=N]]] [--examples=N] [--max_minutes=N] [--final]
python -m launch.sweep --vary=path=level,level ... [--on=path=level,level ...] [--base=NAME] ...

Runs that have ended in the workdir are skipped, unfinished ones are resumed, failed ones retried.
The workers share the threads, by default all cores (`--threads`). `--replicas` runs are trained
together, by default as many as are fastest; the results are the same except for rounding. The
report is on the validation split, with `--final` also on the test split (DIR/final), see
`launch.report`. `--vary` defines an experiment on the command line, whose file is written to
DIR/experiment.py. `--plan` prints what would be run and how long it would take; with `--commands`
it prints a command for each group of runs that share a program, for any scheduler, or with `--jobs`
about so many commands of about equal cost.
Exits 1 if a run failed, 2 for a mistake in the flags or the configuration, 75 if SIGTERM or SIGHUP
stopped it: the current runs are saved, and the same command continues from there.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnjax import files
from cnnjax.errors import UserError
from launch import flags

if TYPE_CHECKING:
    from launch.request import Request


def main(arguments: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    if flags.FLAGS.worker is not None:
        from launch.processes import die_with_parent

        die_with_parent()
    from launch import local, report, request

    values = flags.FLAGS
    if values.experiment == "help":
        print(request.list_experiments())
        return 0
    if values.commands and not values.plan:
        raise UserError("--commands: goes with --plan.")
    if values.jobs and not values.commands:
        raise UserError("--jobs: goes with --plan --commands.")
    if values.worker is not None:
        requested = request.from_flags(values.arms, arguments)
        return local.execute(requested, workers=values.workers, worker=values.worker)
    requested = request.from_flags(values.arms, arguments, stage="plan")
    stages = [request.from_flags(values.arms, arguments, stage="tuning")] if requested.tunes else []
    if values.plan:
        _plan(stages, requested)
        return 0
    requested.check()
    local.describe_data(requested)
    with _sweep_lock(requested.workdir):
        for stage in stages:
            code = local.execute(stage, workers=values.workers)
            print(report.write(stage.workdir, final=False))
            if code:
                return code
        requested = request.from_flags(values.arms, arguments)
        code = local.execute(requested, workers=values.workers)
        print(report.write(requested.workdir, final=values.final))
    return code


def _plan(stages: Sequence["Request"], comparison: "Request") -> None:
    """Prints the plan of tuning and comparison, or commands for the first that has pending runs:
    there are no commands of the comparison before the arms are tuned."""
    from launch import local

    commands = flags.FLAGS.commands
    pending = [stage for stage in stages if stage.pending]
    planned = (pending or [comparison]) if commands else [*stages, comparison]
    for stage in planned:
        if stages and not commands:
            print("the comparison" if stage is comparison else "tuning")
        local.plan(stage, commands=commands, jobs=flags.FLAGS.jobs)
    if commands and pending:
        text = "these tune the arms; when they have ended, ask again for those of the comparison"
        print(text, file=sys.stderr)


@contextlib.contextmanager
def _sweep_lock(workdir: Path) -> Iterator[None]:
    """Holds the lock of the sweep in a workdir; removes it, and a new workdir, after a UserError.
    Raises UserError where another sweep holds it."""
    path = workdir / ".sweep.lock"
    new_workdir, new_lock = not workdir.exists(), not path.exists()
    with files.lock(path, wait=False) as locked:
        if not locked:
            raise UserError(f"--workdir: another sweep is at work in {workdir}.")
        try:
            yield
        except UserError:
            if new_lock and not (workdir / "study.json").exists():
                path.unlink()
            if new_workdir and not any(workdir.iterdir()):
                workdir.rmdir()
            raise


if __name__ == "__main__":
    flags.start("sweep", main)
