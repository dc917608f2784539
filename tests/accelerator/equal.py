"""The ways to take a step give the same: jit, pmap, replicas, several steps a call."""

import jax

from tests.accelerator.part import Part
from tests.train import devices


def equal(part: Part) -> None:
    """The comparisons of tests/train/test_parallel.py, on the devices of this machine."""
    found = devices.found(jax.device_count())
    same = {
        "all devices under jit, one device": found["jit"],
        "all devices under pmap, one device": found["pmap"],
        "replicas together, one by one": found["stacked"],
        "replicas on all devices, one by one": found["dealt"],
        "one by one on all devices, on one": found["single"],
        "arms together, one by one": found["arms"],
        **{f"several steps a call, one ({way})": gap for way, gap in found["scanned"].items()},
    }
    for title, difference in same.items():
        part.row("Largest difference over the steps, float64", of=title, value=difference)
    part.goal("equal", max(same.values()))
    part.note(f"different seeds differ by {found['seeds']:.1e} or more")
