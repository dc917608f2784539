"""A few training steps of one arm, to be timed: python -m launch.rehearsal --arms=NAME [...]

The first of the arms is timed; the others have to be able to start.
Takes the flags of `launch.sweep`, writes nothing, and answers as `launch.timing` says. The steps
are those of a run: same data, same compiled program.
"""

import contextlib
import sys
from collections.abc import Sequence

from launch import flags, grouping, local, request, timing


def main(arguments: Sequence[str]) -> int:
    """Answers until its standard input ends; returns the exit code."""
    with contextlib.redirect_stdout(sys.stderr):  # notes, and whatever a user's file prints
        asked = request.from_flags(flags.FLAGS.arms, arguments, stage="plan")
        session, _ = local.session(asked.training, trains=True)
        config = asked.configs[flags.FLAGS.arms.partition(",")[0]]
        step = grouping.calls(session, config, asked.seeds[:1])
    timing.serve(step, {"backend": session.runtime["backend"]})
    return 0


if __name__ == "__main__":
    flags.define("rehearsal")
    flags.start(main)
