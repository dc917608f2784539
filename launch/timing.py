"""How a process that is timed talks to the one that times it: numbers of steps in, seconds out.

Each contender of the benchmark is a process of its own, so that libraries cannot disturb each
other, and all of them live at once, so that their rounds can take turns.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def serve(step: Callable[[], float], about: Mapping[str, Any]) -> None:
    """Answers on stdout, one JSON object a line, until stdin ends.

    First the losses of two steps on one batch, with `about`. Then, for each number read, the
    seconds of that many steps and the largest resident memory so far in bytes.

    Args:
      step: takes one training step, waits for it, and returns the loss before it.
      about: what is to be known of this contender: its version, for example.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    losses = [step(), step()]
    print(json.dumps({**about, "losses": losses}), file=answers, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "peak_bytes": _peak()}), file=answers, flush=True)


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
