"""The trace of some calls: of how many, and that the run is the same."""

import gzip
import json

import pytest

from cnnjax.train import loop
from cnnjax.train.active_run import Job
from cnnjax.train.profile import Profile
from common import small, train_alone

CONFIG = small(training__steps=20)


def calls(directory):
    """How many train steps the trace in a folder is of; None where there is no trace."""
    traces = list(directory.glob("plugins/profile/*/*.trace.json.gz"))
    if not traces:
        return None
    (trace,) = traces
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    taken = [event for event in events if event.get("name") == "PjitFunction(gathered_train)"]
    ends = [0.0]
    for event in sorted(taken, key=lambda event: event["ts"]):
        if event["ts"] > ends[-1]:  # else it is inside the call before
            ends.append(event["ts"] + event["dur"])
    return len(ends) - 1


def test_ten_calls_of_the_first_run_that_is_long_enough_are_traced(session, tmp_path):
    messages, plain = [], train_alone(session, CONFIG, 1, tmp_path / "plain")
    profile = Profile(tmp_path / "trace", messages.append)
    too_short = Job(small(training__steps=3), 0, tmp_path / "short")
    loop.train(session, [too_short], profile=profile)
    assert calls(tmp_path / "trace") is None
    (result,) = loop.train(session, [Job(CONFIG, 1, tmp_path / "run")], profile=profile)
    assert calls(tmp_path / "trace") == 10
    loop.train(session, [Job(CONFIG, 2, tmp_path / "next")], profile=profile)
    assert calls(tmp_path / "trace") == 10
    assert [line.partition(";")[0] for line in messages] == [
        f"profile: 10 calls of seed 1 are in {tmp_path / 'trace'}"
    ]
    assert result.params_digest == plain.params_digest


@pytest.mark.parametrize(
    ("steps", "traced", "told"),
    [
        (7, 4, "profile: 4 calls of seed 1"),
        (3, None, "profile: no trace, since no run made more than 3 calls"),
    ],
)
def test_a_short_run_is_traced_as_far_as_it_goes(session, tmp_path, steps, traced, told):
    messages = []
    profile = Profile(tmp_path / "trace", messages.append)
    job = Job(small(training__steps=steps), 1, tmp_path / "run")
    loop.train(session, [job], profile=profile)
    profile.close()
    assert calls(tmp_path / "trace") == traced
    assert [line.partition(" are in ")[0] for line in messages] == [told]
