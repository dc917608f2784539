"""Gathers the wheels that a bare machine with an accelerator lacks: `make wheelhouse`

python -m tests.accelerator.wheelhouse --output=DIR [--python=3.12] [--list]

They are what the project requires, with what that requires in turn, less what is there: the
packages in `machine.txt` with what those require. The versions are those of constraints.txt for
that Python on Linux and x86-64. Needs the environment of `make setup`, whose packages say what they
require, and the package index.
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PRESENT = Path(__file__).with_name("machine.txt")
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LARGEST = 50 << 20  # bytes, of all wheels


def target(python: str) -> dict[str, str]:
    """The environment that the markers of requirements are evaluated in."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def locked(python: str) -> dict[str, str]:
    """{package: its version} of constraints.txt."""
    environment = target(python)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line.strip()]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(environment)
    }


def missing(python: str) -> list[str]:
    """`name==version` of each package that the machine lacks, by name.

    Raises LookupError for a package that is not in constraints.txt or not installed here.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        required = tomllib.load(file)["project"]["dependencies"]
    versions, there = locked(python), present(python)
    names = sorted(_closure(required, python, there))
    for name in names:
        if name not in versions:
            raise LookupError(f"{name}: is required and not in constraints.txt; `make lock`")
        if not _installed(name):
            raise LookupError(f"{name}: is not installed here; `make setup`")
    return [f"{name}=={versions[name]}" for name in names]


def present(python: str) -> set[str]:
    """The packages that the machine has, as far as their requirements are known here."""
    lines = [line for line in PRESENT.read_text().splitlines() if line and line[0] != "#"]
    taken_along = {line[1:] for line in lines if line[0] == "!"}
    return _closure([line for line in lines if line[0] != "!"], python, set()) - taken_along


def _closure(requirements: Sequence[str], python: str, without: set[str]) -> set[str]:
    """The packages that are required, with what they require in turn, but for some."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        needed = waiting.pop()
        key = (canonicalize_name(needed.name), frozenset(needed.extras))
        if key not in seen and key[0] not in without:
            seen.add(key)
            waiting += _needs(*key, python)
    return {name for name, _ in seen}


def _installed(name: str) -> bool:
    return bool(list(importlib.metadata.distributions(name=name)))


def _needs(name: str, extras: Iterable[str], python: str) -> Iterator[Requirement]:
    """What a package requires on the machine, as it says where it is installed here."""
    for text in (importlib.metadata.requires(name) if _installed(name) else None) or []:
        needed = Requirement(text)
        chosen = [{**target(python), "extra": extra} for extra in ("", *sorted(extras))]
        if needed.marker is None or any(map(needed.marker.evaluate, chosen)):
            yield needed


def download(pins: list[str], output: Path, python: str) -> None:
    """Fetches a wheel of each package into a folder that held nothing but wheels.

    Raises LookupError where there is neither a wheel for the machine nor a source that becomes one
    for any machine.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    wheel = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    with tempfile.TemporaryDirectory() as folder:
        for pin in pins:
            fetch = [*pip, "download", "--no-deps", *wheel, *platforms, f"--dest={folder}", pin]
            build = [*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", pin]
            before = set(Path(folder).iterdir())
            if subprocess.run(fetch, capture_output=True).returncode:
                subprocess.run(build, capture_output=True)
            new = set(Path(folder).iterdir()) - before
            if not new or not all(_fits(path) for path in new):
                raise LookupError(f"{pin}: has no wheel for Python {python} on Linux and x86-64")
            print(pin, flush=True)
        output.mkdir(parents=True, exist_ok=True)
        for old in output.glob("*.whl"):
            old.unlink()
        for path in sorted(Path(folder).iterdir()):
            shutil.move(path, output / path.name)


def _fits(path: Path) -> bool:
    return path.name.endswith("-none-any.whl") or "manylinux" in path.name


def main() -> int:
    """Gathers them, or lists them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=ROOT / "wheelhouse")
    parser.add_argument("--python", default="3.12", help="the machine's Python")
    parser.add_argument("--list", action="store_true", help="print their names, fetch nothing")
    asked = parser.parse_args()
    if asked.python not in PYTHONS:
        print(f"error: --python: {asked.python!r}; allowed: {', '.join(PYTHONS)}.", file=sys.stderr)
        return 2
    try:
        pins = missing(asked.python)
        if asked.list:
            print("\n".join(pins))
            return 0
        download(pins, asked.output, asked.python)
    except LookupError as error:
        print(f"error: {error}.", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in asked.output.glob("*.whl"))
    print(f"{asked.output}: {len(pins)} wheels, {size / 2**20:.1f} MiB")
    if size > LARGEST:
        print(f"error: that is more than {LARGEST >> 20} MiB.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
