"""A device with too little memory: XLA's messages, as issues on the web quote them, and ours."""

import json
import subprocess
import sys

import jax
import pytest

from cnnjax.errors import OutOfMemory
from cnnjax.train import memory
from common import ROOT, small

TEXTS = {
    "RESOURCE_EXHAUSTED: Out of memory allocating 32000000000 bytes.": 32e9,
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4770354232 bytes.\n"
    "BufferAssignment OOM Debugging.\nBufferAssignment stats:\n"
    "             parameter allocation:  372.76MiB\n"
    "              constant allocation:    48.5KiB\n": 4770354232,
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3.37GiB.": 3.37 * 2**30,
    "RESOURCE_EXHAUSTED: Failed to allocate request for 6.27GiB (6727663616B) on device ordinal "
    "0": 6727663616,
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 21.95G of 15.48G hbm.\n Exceeded hbm capacity by 6.47G.\n": 21.95 * 2**30,
    "RESOURCE_EXHAUSTED: no words of size": 0,
    "INTERNAL: Failed to execute XLA Runtime executable: run time error: custom call": None,
}


@pytest.mark.parametrize(("text", "size"), TEXTS.items())
def test_the_messages_of_every_backend_are_recognised(text, size):
    assert memory.requested_bytes(jax.errors.JaxRuntimeError(text)) == pytest.approx(size)


def test_other_errors_are_not_taken_for_one_of_memory():
    assert memory.requested_bytes(RuntimeError(next(iter(TEXTS)))) is None
    for error in (RuntimeError("RESOURCE_EXHAUSTED"), jax.errors.JaxRuntimeError("INTERNAL: x")):
        with pytest.raises(type(error)) as raised, memory.explain_training(small()):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    ("changes", "runs", "told"),
    [
        ({}, 1, "50: needs more memory than the device has (2.00 GB were asked for); try a smaller "
         "training.batch_size, model.remat=true or training.precision=bfloat16."),
        ({"model__remat": True, "training__precision": "bfloat16"}, 1,
         "50: needs more memory than the device has (2.00 GB were asked for); try a smaller "
         "training.batch_size."),
        ({"model__remat": True}, 8, "50 of 8 runs at a time: needs more memory than the device has "
         "(2.00 GB were asked for); try fewer --replicas, a smaller training.batch_size or "
         "training.precision=bfloat16."),
    ],
)  # fmt: skip
def test_the_message_names_the_batch_size_and_the_fields_that_help(changes, runs, told):
    error = jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 2000000000 bytes"
    )
    with pytest.raises(OutOfMemory) as raised, memory.explain_training(small(**changes), runs=runs):
        raise error
    assert str(raised.value) == f"training.batch_size: {told}"
    assert raised.value.__cause__ is error


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def limited():
    """Runs a program that may have 8 GiB of addresses."""

    def run(*words):
        done = [sys.executable, "-c", LIMITED, *words]
        return subprocess.run(done, cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is heeded on Linux")
def test_too_large_a_batch_fails_the_run_with_one_line(limited, tmp_path):
    """1200 x 800,000 units, some of them kept for the gradient."""
    changes = {
        "model.name": "mlp",
        "model.hidden": "[800000]",
        "data.image_size": "8",
        "training.batch_size": "1200",
        "training.steps": "3",
        "training.cpu_convolution": "xla",
    }
    words = [f"--set={path}={value}" for path, value in changes.items()]
    done = limited(
        "launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0",
        f"--workdir={tmp_path}", *words,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    result = json.loads((tmp_path / "relu/seed-0/result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"].startswith(
        "training.batch_size: 1200: needs more memory than the device"
    )
    assert result["error"].endswith("model.remat=true or training.precision=bfloat16.")
    assert f"[1/1] relu seed 0: FAILED: {result['error']}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "RESOURCE_EXHAUSTED" in (tmp_path / "relu/seed-0/error.txt").read_text()


EVALUATE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (5 << 30, 5 << 30))
import jax
from tests.common import small
from cnnjax.train import evaluation
from cnnjax.train.session import Session
session = Session()
config = small(model__hidden=(1_000_000,), evaluation__batch_size=1300)
program, dataset = session.program(config), session.dataset(config, 0)
variables = program.initialize(jax.random.key(0))
store = session.store(config, program)
try:
    arrays = program.compiled, variables, store, dataset
    evaluation.evaluate(program.task, *arrays, "train", batch_size=1300)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is heeded on Linux")
def test_too_large_an_evaluation_batch_names_its_field():
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE], cwd=ROOT, capture_output=True, text=True
    )
    line = "OutOfMemory evaluation.batch_size: 1300: needs more memory than the device has"
    assert done.stdout.startswith(line), done.stdout + done.stderr
    assert done.stdout.endswith("; try a smaller evaluation.batch_size.\n")
