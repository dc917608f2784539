"""Takes training steps of one arm to be timed: python -m launch.time_arm --arms=NAME [...]

The first arm is timed; the others are only checked. The program takes the flags of `launch.sweep`,
writes no files, and follows the protocol of `launch.timing`. The steps are those of a run: same
data, same compiled program.
"""

import contextlib
import sys
from collections.abc import Sequence

from launch import flags, grouping, local, request, timing


def main(arguments: Sequence[str]) -> int:
    """Serves until standard input ends; returns the exit code."""
    with contextlib.redirect_stdout(sys.stderr):  # notes, and output of the user's file
        requested = request.from_flags(flags.FLAGS.arms, arguments, stage="plan")
        session, _ = local.open_session(requested.training, trains=True)
        config = requested.configs[flags.FLAGS.arms.partition(",")[0]]
        step = grouping.step_function(session, config, requested.seeds[:1])
    timing.serve(step, {"backend": session.runtime["backend"]})
    return 0


if __name__ == "__main__":
    flags.start("time_arm", main)
