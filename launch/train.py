"""Trains one arm of an experiment, or several, with some seeds.

python -m launch.train --experiment=NAME --arm=NAME[,NAME] --seeds=0,1,2 --workdir=DIR
    [--set path=value ...] [--init_from=DIR] [--data_dir=DIR] [--threads=N]
    [--replicas=N]

Runs are trained one after another or, `--replicas` of them, together; by default what is faster.

`--init_from` starts from a folder of weights and uses their network and preprocessing; a head for
other classes keeps fresh values with --set 'transfer.reset=["head"]'.
"""

from collections.abc import Sequence

from launch import flags


def main(arguments: Sequence[str]) -> int:
    """Trains; returns the exit code."""
    from launch import local, request

    if flags.FLAGS.experiment == "help":
        print(request.list_experiments())
        return 0
    requested = request.from_flags(flags.FLAGS.arm or "", arguments)
    local.describe_data(requested)
    return local.execute(requested)


if __name__ == "__main__":
    flags.start("train", main)
