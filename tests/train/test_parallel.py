"""One device and four: the same run, with jit over a mesh, with pmap, as one of several replicas,
and with several steps in a call. In float64, in a process of its own, because the number of devices
and the precision are fixed when jax starts."""

import json
import os
import subprocess
import sys

import pytest

from cnnjax.errors import UserError
from cnnjax.train import parallel
from common import ROOT


@pytest.fixture(scope="module")
def results():
    jax = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.devices"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, **jax},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_four_devices_under_jit_are_one(results):
    assert results["jit"] < 1e-9
    assert results["size"] > 1e-3


def test_four_devices_under_pmap_with_synchronised_statistics_are_one(results):
    assert results["pmap"] < 1e-9


def test_a_segmentation_on_four_devices_is_that_on_one(results):
    """With augmented masks, max unpooling and skips."""
    assert results["segmentation"] < 1e-9


def test_statistics_per_device_are_another_network(results):
    assert results["per_device"] > 1e-4


def test_each_step_is_traced_once_and_leaves_one_whole_state(results):
    assert results["traces"] == [1, 1, 1, 1]
    assert results["whole"] == [True] * 4
    assert results["steps"] == [4] * 4


def test_replicas_are_those_trained_one_after_another(results):
    """Ten steps with augmentation, dropout and batch norm; on four devices with padding."""
    assert max(results["stacked"], results["sharded"], results["single"]) < 1e-9
    assert results["seeds"] > 1e-4  # the seeds themselves differ
    assert results["together"] == [1, 1, 1]


def test_arms_that_differ_in_numbers_alone_are_trained_together(results):
    """Each with its own learning rates, weight decay, keep_prob and label smoothing."""
    assert max(results["arms"], results["arms_sharded"]) < 1e-9
    assert results["numbers"] > 1e-4  # they do make a difference


@pytest.mark.parametrize(
    "mode", ["jit", "jit, several devices", "pmap", "with dropout", "replicas"]
)
def test_several_steps_in_a_call_are_those_of_single_calls(results, mode):
    assert results["scanned"][mode] < 1e-9


def test_a_batch_that_cannot_be_divided_is_refused():
    parallel.check_batch(64, 4)
    with pytest.raises(
        UserError, match=r"batch_size: 50 cannot be divided among 4 devices; try 48"
    ):
        parallel.check_batch(50, 4)
