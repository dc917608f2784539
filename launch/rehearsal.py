"""A few training steps of one arm, to be timed: python -m launch.rehearsal --arms=NAME [...]

Takes the flags of `launch.sweep`, writes nothing, and answers as `launch.timing` says. The steps
are those of a run: same data, same compiled program.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence

from launch import flags, local, request, timing


def main(arguments: Sequence[str]) -> int:
    """Answers until its standard input ends; returns the exit code."""
    with contextlib.redirect_stdout(sys.stderr):  # notes, and whatever a user's file prints
        step, backend = _prepare(request.from_flags(flags.FLAGS.arms, arguments, stage="plan"))
    timing.serve(step, {"backend": backend})
    return 0


def _prepare(asked: request.Request) -> tuple[Callable[[], float], str]:
    """A function that takes a step and gives its loss, and what computes it."""
    session = local.session(asked)
    config, seed = next(iter(asked.configs.values())), asked.seeds[0]
    dataset, program = session.dataset(config, seed), session.program(config)
    current = session.initial_state(config, program, dataset, seed)
    hparams, store = session.hparams(config, seed, program), session.store(config, program)
    batches = dataset.train_batches(0, 2**31)

    def step() -> float:
        nonlocal current
        current, metrics = program.compiled.train(current, store, next(batches), hparams)
        return float(metrics["loss"])

    return step, session.runtime["backend"]


if __name__ == "__main__":
    flags.define("experiment", "arms", "seeds", "workdir", "set", "data_dir", "tuning")
    flags.start(main)
