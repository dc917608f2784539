"""Which devices are used, and the errors where an accelerator cannot be used.

A plugin is a folder with the metadata of an installed package; the messages of jax for one that
fails are logged or raised as jax would do it.
"""

import logging
import os
import subprocess
import sys

import jax
import pytest

from cnnjax.errors import UserError
from cnnjax.train import devices
from cnnjax.train.session import Session
from common import ROOT, program

ON_PURPOSE = "To compute on the CPU, set JAX_PLATFORMS=cpu."
NO_GPU = (
    "there is no NVIDIA device (/dev/nvidia0): its driver is not loaded, or this container or job "
    "was given none"
)


def installed(folder, name):
    """A folder with the metadata of an installed package."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return str(folder)


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """The files of a machine with an NVIDIA GPU and the plugin for CUDA 13; jax is given no
    platform."""
    monkeypatch.syspath_prepend(installed(tmp_path, "jax-cuda13-plugin"))
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(devices, "_FILES", (str(tmp_path / "nvidia0"),))
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n"
    )
    platforms = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    yield tmp_path
    jax.config.update("jax_platforms", platforms)


@pytest.fixture
def fails(monkeypatch):
    """Makes jax raise or log something when it is asked for devices."""

    def how(error=None, logged=None):
        def local_devices(plain=jax.local_devices):
            if logged:
                try:
                    raise RuntimeError(logged)
                except RuntimeError:
                    logging.getLogger("jax._src.xla_bridge").exception("Jax plugin error")
            if error:
                raise error
            return plain()

        monkeypatch.setattr(jax, "local_devices", local_devices)

    return how


def test_all_devices_are_taken_or_the_first_so_many():
    assert devices.find() == (jax.local_devices(), "")
    assert devices.find(1) == (jax.local_devices()[:1], "")
    with pytest.raises(UserError, match=r"^--devices: 3 is more than there are: 1 \(cpu; cpu\)\.$"):
        devices.find(3)


def test_no_more_devices_are_used_than_asked_for(tmp_path):
    words = ["launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0"]
    words += [f"--workdir={tmp_path}", "--set=training.steps=2"]
    done = program(*words, "--devices=5", JAX_NUM_CPU_DEVICES="4", check=2)
    assert done.stderr == "error: --devices: 5 is more than there are: 4 (cpu; cpu).\n"
    program(*words, "--devices=2", JAX_NUM_CPU_DEVICES="4")
    assert '"devices": 2' in (tmp_path / "relu/seed-0/result.json").read_text()


def test_a_plugin_without_a_gpu_is_an_error_before_anything_is_written(tmp_path):
    (tmp_path / "site").mkdir()
    path = os.pathsep.join([installed(tmp_path / "site", "jax-cuda13-plugin"), str(ROOT)])
    words = ["launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0"]
    words += [f"--workdir={tmp_path / 'w'}", "--set=training.steps=2"]
    done = program(*words, check=2, PYTHONPATH=path, JAX_PLATFORMS="")
    assert done.stderr == (
        "error: no accelerator: jax-cuda13-plugin is installed, but jax computes on the CPU: "
        f"{NO_GPU}. {ON_PURPOSE}\n"
    )
    assert not (tmp_path / "w").exists()
    program(*words, PYTHONPATH=path, JAX_PLATFORMS="cpu")


def test_a_session_that_only_checks_has_a_note_instead(gpu):
    os.remove(gpu / "nvidia0")
    with pytest.raises(UserError, match="no accelerator: jax-cuda13-plugin"):
        Session()
    assert Session(trains=False).note.startswith("note: no accelerator: jax-cuda13-plugin")


def test_the_error_of_an_old_driver_has_the_version_that_is_needed(gpu, fails, caplog):
    """The plugin fails while it loads cuDNN, which jax logs with a traceback before it goes on on
    the CPU."""
    (gpu / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    )
    fails(logged="Unable to load cuDNN. Is it installed?")
    assert devices.find()[1] == (
        "no accelerator: jax-cuda13-plugin is installed, but jax computes on the CPU: the NVIDIA "
        f"driver is 535.183.01, and jax-cuda13-plugin needs 580 or newer; update it. {ON_PURPOSE}"
    )
    assert not caplog.records, "one line is enough"


def test_for_other_reasons_the_error_has_the_message_of_jax(gpu, fails):
    fails(logged="Unable to load cuDNN. Is it installed?")
    assert ": Unable to load cuDNN. Is it installed. To" in devices.find()[1]


def test_warnings_of_jax_are_logged_where_no_accelerator_is_missing(fails, caplog):
    fails(logged="a warning of another plugin")
    assert not devices.find()[1]
    assert [record.message for record in caplog.records] == ["Jax plugin error"]


def test_a_gpu_that_is_hidden_by_the_environment(gpu, fails, monkeypatch):
    """jax-ml/jax#28376 has the text."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = (
        "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices. (you "
        "may need to uninstall the failing plugin package, or set JAX_PLATFORMS=cpu to skip this "
        "backend.)"
    )
    fails(error=RuntimeError(text))
    told = (
        "jax finds no device: Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible "
        "GPU devices (CUDA_VISIBLE_DEVICES is '')."
    )
    with pytest.raises(UserError) as raised:
        devices.find()
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("platforms", "told"),
    [
        ("cuda", "JAX_PLATFORMS: 'cuda' needs a plugin that is not installed; pip install -e "
         "'.[cuda]', or leave JAX_PLATFORMS out"),
        ("tpu", "JAX_PLATFORMS: 'tpu' needs a plugin that is not installed; pip install -e "
         "'.[tpu]', or leave JAX_PLATFORMS out"),
        ("cudda", "JAX_PLATFORMS: 'cudda': unknown 'cudda'. Known: cpu, cuda, tpu."),
    ],
)  # fmt: skip
def test_a_platform_that_is_not_installed(tmp_path, platforms, told):
    done = program(
        "launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0",
        f"--workdir={tmp_path / 'w'}", check=2, JAX_PLATFORMS=platforms,
    )  # fmt: skip
    assert done.stderr == f"error: {told}\n"


def test_a_platform_asked_for_by_name_without_a_gpu_has_the_same_reason(tmp_path):
    path = os.pathsep.join([installed(tmp_path, "jax-cuda12-plugin"), str(ROOT)])
    code = "from cnnjax.train import devices; devices.find()"
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cuda"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stderr.splitlines()[-1].endswith(
        f"JAX_PLATFORMS: 'cuda' finds no device: {NO_GPU}."
    )
