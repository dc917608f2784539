"""Runs all arms of an experiment with all its seeds, then writes the report.

python -m launch.sweep --experiment=NAME [--arms=a,b] [--seeds=0-7] --workdir=DIR
    [--workers=N] [--threads=N] [--set path=value ...] [--init_from=DIR] [--data_dir=DIR]
    [--final]

Runs that have ended in the workdir are skipped, unfinished ones are resumed, failed ones retried.
The workers share the threads: all cores, unless `--threads` says otherwise. The report is on the
validation split; with `--final` on the test split, see `launch.report`.
Exits 1 if a run failed, 2 for a mistake in the flags or the configuration.
"""

from collections.abc import Sequence

from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    from launch import local, request

    if flags.FLAGS.experiment == "help":
        print(request.list_experiments())
        return 0
    asked = request.from_flags(flags.FLAGS.arms, arguments)
    code = local.execute(asked, workers=flags.FLAGS.workers, worker=flags.FLAGS.worker)
    if flags.FLAGS.worker is None:
        from launch import report

        print(report.write(asked.workdir, final=flags.FLAGS.final))
    return code


if __name__ == "__main__":
    flags.define("experiment", "arms", "seeds", "workdir", "workers", "threads", "final")
    flags.define("set", "init_from", "data_dir", "worker")
    flags.start(main)
