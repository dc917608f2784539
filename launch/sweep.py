"""Runs all arms of an experiment with all its seeds, then writes the report.

python -m launch.sweep --experiment=NAME [--arms=a,b] [--seeds=0-7] --workdir=DIR
    [--workers=N] [--threads=N] [--replicas=N] [--set path=value ...] [--init_from=DIR]
    [--data_dir=DIR] [--plan [--commands [--jobs=N]]] [--examples=N] [--max_minutes=N] [--final]
python -m launch.sweep --vary=path=level,level ... [--on=path=level,level ...] [--base=NAME] ...

Runs that have ended in the workdir are skipped, unfinished ones are resumed, failed ones retried.
The workers share the threads: all cores, unless `--threads` says otherwise. `--replicas` seeds of
an arm are trained together, by default as many as are fastest; the results are the same but for
rounding. The report is on the validation split, with `--final` on the test split too (DIR/final):
`launch.report`. `--vary` asks a question of your own; the experiment file that it stands for is
kept as DIR/experiment.py. `--plan` says what would be done and how long it would take; with
`--commands` it prints a command for each group of runs that share a program, for any scheduler, or
with `--jobs` about so many of about equal cost.
Exits 1 if a run failed, 2 for a mistake in the flags or the configuration, 75 if SIGTERM or SIGHUP
stopped it: the runs under way are saved, and the same command goes on from there.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnjax import files
from cnnjax.errors import UserError
from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    if flags.FLAGS.worker is not None:
        from launch.processes import die_with_parent

        die_with_parent()
    from launch import local, report, request

    asked_for = flags.FLAGS
    if asked_for.experiment == "help":
        print(request.list_experiments())
        return 0
    if asked_for.commands and not asked_for.plan:
        raise UserError("--commands: goes with --plan.")
    if asked_for.jobs and not asked_for.commands:
        raise UserError("--jobs: goes with --plan --commands.")
    if asked_for.worker is not None:
        asked = request.from_flags(asked_for.arms, arguments)
        return local.execute(asked, workers=asked_for.workers, worker=asked_for.worker)
    asked = request.from_flags(asked_for.arms, arguments, stage="plan")
    stages = [request.from_flags(asked_for.arms, arguments, stage="tuning")] if asked.tunes else []
    if asked_for.plan:
        _plan(stages, asked)
        return 0
    asked.check()
    local.describe_data(asked)
    with _alone(asked.workdir):
        for stage in stages:
            code = local.execute(stage, workers=asked_for.workers)
            print(report.write(stage.workdir, final=False))
            if code:
                return code
        asked = request.from_flags(asked_for.arms, arguments)
        code = local.execute(asked, workers=asked_for.workers)
        print(report.write(asked.workdir, final=asked_for.final))
    return code


def _plan(stages: Sequence[Any], asked: Any) -> None:
    """Prints what is to be done: of arms that are yet to be tuned, no command can be given before
    they are."""
    from launch import local

    if not flags.FLAGS.commands:
        for stage in (*stages, asked):
            if stages:
                print("the comparison" if stage is asked else "tuning")
            local.plan(stage, commands=False)
        return
    open_ = [stage for stage in stages if stage.pending]
    for stage in open_ or [asked]:
        local.plan(stage, commands=True, jobs=flags.FLAGS.jobs)
    if open_:
        text = "these tune the arms; when they have ended, ask again for those of the comparison"
        print(text, file=sys.stderr)


@contextlib.contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """Holds the lock of a workdir's sweep; a mistake leaves nothing of it behind. Raises UserError
    where another sweep has it."""
    path = workdir / ".sweep.lock"
    made, fresh = not workdir.exists(), not path.exists()
    with files.lock(path, wait=False) as mine:
        if not mine:
            raise UserError(f"--workdir: another sweep is at work in {workdir}.")
        try:
            yield
        except UserError:
            if fresh and not (workdir / "study.json").exists():
                path.unlink()
            if made and not any(workdir.iterdir()):
                workdir.rmdir()
            raise


if __name__ == "__main__":
    flags.define("sweep")
    flags.start(main)
