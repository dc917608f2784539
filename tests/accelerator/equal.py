"""The ways to take a step give the same: jit, pmap, replicas, several steps a call."""

import jax

from tests.accelerator.part import Part
from tests.train import devices


def equal(part: Part) -> None:
    """The comparisons of tests/train/test_parallel.py, on the devices of this machine."""
    differences = devices.compare(jax.device_count())
    same = {
        "all devices under jit, one device": differences["jit"],
        "all devices under pmap, one device": differences["pmap"],
        "replicas together, one by one": differences["stacked"],
        "replicas on all devices, one by one": differences["sharded"],
        "one by one on all devices, on one": differences["single"],
        "arms together, one by one": differences["arms"],
        **{
            f"several steps a call, one ({way})": gap for way, gap in differences["scanned"].items()
        },
    }
    for title, difference in same.items():
        part.row("Largest difference over the steps, float64", of=title, value=difference)
    part.goal("equal", max(same.values()))
    part.note(f"different seeds differ by {differences['seeds']:.1e} or more")
