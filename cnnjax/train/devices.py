"""The devices that jax computes on, with an error where an accelerator cannot be used.

A program initializes jax's backend here. If the plugin of an accelerator is installed but fails,
jax falls back to the CPU and at most logs why, which could go unnoticed for a whole night of
training.
"""

import contextlib
import importlib.metadata
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from cnnjax.errors import UserError

_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
_DRIVER = Path("/proc/driver/nvidia/version")
_PLUGINS = {"jax-cuda13-plugin": 580, "jax-cuda12-plugin": 525, "libtpu": 0}
"""The packages of accelerators, and the oldest NVIDIA driver that each supports (docs.jax.dev,
installation)."""

_EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}
"""The extra of this package for each platform of jax: `pip install -e '.[cuda]'`."""


def require() -> list[jax.Device]:
    """All devices of `find`. Also raises UserError where they are not the accelerator that a plugin
    is installed for."""
    devices, fallback = find()
    if fallback:
        raise UserError(fallback)
    return devices


def find(count: int | None = None) -> tuple[list[jax.Device], str]:
    """The devices of this process: all, or the first `count`; and why they are not the accelerator
    that a plugin is installed for, "" if they are.

    Raises UserError where jax finds none, or fewer than `count`.
    """
    config: Any = jax.config
    platforms: str | None = config.jax_platforms
    with _captured_warnings() as messages:
        try:
            devices = jax.local_devices()
        except (RuntimeError, AssertionError) as error:  # the latter where no platform has a device
            raise UserError(_explain(platforms, str(error))) from None
        plugin = _installed_plugin()
        fallback = ""
        if not platforms and plugin and devices[0].platform == "cpu":
            reason = _reason(plugin, " ".join(messages))
            fallback = (
                f"no accelerator: {plugin} is installed, but jax computes on the CPU: "
                f"{reason}. To compute on the CPU, set JAX_PLATFORMS=cpu."
            )
            messages.clear()
    if count and count > len(devices):
        raise UserError(
            f"--devices: {count} is more than there are: {len(devices)} "
            f"({devices[0].device_kind}; {devices[0].platform})."
        )
    return devices[:count], fallback


def _explain(platforms: str | None, error: str) -> str:
    """Why jax has no backend, and what to do."""
    if not platforms:
        return f"jax finds no device: {_reason(_installed_plugin(), error)}."
    for platform in platforms.split(","):
        extra = _EXTRAS.get(platform)
        if extra and not _installed_plugin(extra):
            return (
                f"JAX_PLATFORMS: {platforms!r} needs a plugin that is not installed; "
                f"pip install -e '.[{extra}]', or leave JAX_PLATFORMS out"
            )
    if unknown := re.search(r"'([^']+)' is not in the list of known backends", error):
        return f"JAX_PLATFORMS: {platforms!r}: unknown {unknown[1]!r}. Known: cpu, cuda, tpu."
    return f"JAX_PLATFORMS: {platforms!r} finds no device: {_reason(_installed_plugin(), error)}."


def _installed_plugin(extra: str = "") -> str | None:
    """The first installed package of an accelerator whose name contains `extra`."""
    for name in _PLUGINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if extra in name:
                importlib.metadata.version(name)
                return name
    return None


def _reason(plugin: str | None, message: str) -> str:
    """Why a plugin cannot be used, without a full stop; `message` is jax's own."""
    oldest_driver = _PLUGINS[plugin] if plugin else 0
    if oldest_driver and not any(map(os.path.exists, _FILES)):
        return (
            f"there is no NVIDIA device ({_FILES[0]}): its driver is not loaded, or this container "
            "or job was given none"
        )
    driver = _driver_version()
    if driver and int(driver.partition(".")[0]) < oldest_driver:
        return (
            f"the NVIDIA driver is {driver}, and {plugin} needs {oldest_driver} or newer; update it"
        )
    text = re.sub(r" \((set JAX_PLATFORMS|you may need to).*", "", " ".join(message.split()))
    text = text.rstrip(".?") or "it does not say why"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if oldest_driver and visible is not None:
        return f"{text} (CUDA_VISIBLE_DEVICES is {visible!r})"
    return text


def _driver_version() -> str:
    """The version of the NVIDIA driver, "" where it is not known."""
    with contextlib.suppress(OSError):
        if match := re.search(r"Kernel Module\D*([\d.]+)", _DRIVER.read_text()):
            return match[1]
    return ""


@contextlib.contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Captures what jax logs of backends that failed. It is logged afterwards unless the list of
    messages has been cleared."""
    messages: list[str] = []
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        cause = record.exc_info[1] if record.exc_info else None
        messages.append(str(cause) if cause else record.getMessage())
        records.append(record)
        return False

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(keep)
    try:
        yield messages
    finally:
        logger.removeFilter(keep)
    for record in records if messages else ():
        logger.handle(record)
