"""The devices that jax computes on, and in a line what is wrong where they are not those meant.

This is where a program asks jax for its backend first. Where the plugin of an accelerator is
installed and cannot be used, jax computes on the CPU and at most logs why: a study would train a
night long before anybody noticed.
"""

import contextlib
import importlib.metadata
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from cnnjax.errors import UserError

_LOGGER = "jax._src.xla_bridge"
_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
_DRIVER = Path("/proc/driver/nvidia/version")
_PLUGINS = {"jax-cuda13-plugin": 580, "jax-cuda12-plugin": 525, "libtpu": 0}
"""The packages of accelerators, and the oldest NVIDIA driver that each takes (docs.jax.dev,
installation)."""

_EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}
"""What is installed for a platform, as jax names it: `pip install -e '.[cuda]'`."""


class Found(NamedTuple):
    """Devices, and why they are not the accelerator that a plugin is installed for; else empty."""

    devices: list[Any]
    missing: str = ""


def needed(count: int | None = None) -> list[Any]:
    """The devices that `find` gives. Raises UserError, too, where they are not the accelerator that
    a plugin is installed for."""
    found = find(count)
    if found.missing:
        raise UserError(found.missing)
    return found.devices


def find(count: int | None = None) -> Found:
    """The devices of this process: all, or the first `count`.

    Raises UserError where jax finds none, or fewer than `count`.
    """
    config: Any = jax.config
    asked: str | None = config.jax_platforms
    with _listening() as said:
        try:
            devices = jax.local_devices()
        except (RuntimeError, AssertionError) as error:  # the latter where no platform has a device
            raise UserError(_explained(asked, str(error))) from None
        plugin = _plugin()
        missing = ""
        if not asked and plugin and devices[0].platform == "cpu":
            missing = (
                f"no accelerator: {plugin} is installed, but jax computes on the CPU: "
                f"{_reason(plugin, ' '.join(said))}. To compute on the CPU, set JAX_PLATFORMS=cpu."
            )
            said.clear()
    if count and count > len(devices):
        raise UserError(
            f"--devices: {count} is more than there are: {len(devices)} "
            f"({devices[0].device_kind}; {devices[0].platform})."
        )
    return Found(devices[:count], missing)


def _explained(asked: str | None, error: str) -> str:
    """Why jax has no backend, and what to do."""
    if not asked:
        return f"jax finds no device: {_reason(_plugin(), error)}."
    for platform in asked.split(","):
        extra = _EXTRAS.get(platform)
        if extra and not _plugin(extra):
            return (
                f"JAX_PLATFORMS: {asked!r} needs a plugin that is not installed; "
                f"pip install -e '.[{extra}]', or leave JAX_PLATFORMS out"
            )
    if unknown := re.search(r"'([^']+)' is not in the list of known backends", error):
        return f"JAX_PLATFORMS: {asked!r}: unknown {unknown[1]!r}. Known: cpu, cuda, tpu."
    return f"JAX_PLATFORMS: {asked!r} finds no device: {_reason(_plugin(), error)}."


def _plugin(extra: str = "") -> str | None:
    """The first package of an accelerator that is installed, of those of an extra."""
    for name in _PLUGINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if extra in name:
                importlib.metadata.version(name)
                return name
    return None


def _reason(plugin: str | None, said: str) -> str:
    """Why a plugin cannot be used, without a full stop; `said` is what jax says of it."""
    needed = _PLUGINS[plugin] if plugin else 0
    if needed and not any(map(os.path.exists, _FILES)):
        return (
            f"there is no NVIDIA device ({_FILES[0]}): its driver is not loaded, or this container "
            "or job was given none"
        )
    driver = _driver()
    if driver and int(driver.partition(".")[0]) < needed:
        return f"the NVIDIA driver is {driver}, and {plugin} needs {needed} or newer; update it"
    text = re.sub(r" \((set JAX_PLATFORMS|you may need to).*", "", " ".join(said.split()))
    text = text.rstrip(".?") or "it does not say why"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        f"{text} (CUDA_VISIBLE_DEVICES is {visible!r})" if needed and visible is not None else text
    )


def _driver() -> str:
    """The version of the NVIDIA driver, "" where the system does not tell."""
    with contextlib.suppress(OSError):
        if found := re.search(r"Kernel Module\D*([\d.]+)", _DRIVER.read_text()):
            return found[1]
    return ""


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """What jax logs meanwhile of backends that failed, which is shown after all where it is left
    in the list."""
    said: list[str] = []
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        cause = record.exc_info[1] if record.exc_info else None
        said.append(str(cause) if cause else record.getMessage())
        records.append(record)
        return False

    logger = logging.getLogger(_LOGGER)
    logger.addFilter(keep)
    try:
        yield said
    finally:
        logger.removeFilter(keep)
    for record in records if said else ():
        logger.handle(record)
