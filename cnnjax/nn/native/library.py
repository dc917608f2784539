"""The native library: compiled once with the system's compiler, loaded, and registered with XLA.

It needs Linux on x86-64, oneDNN (the extra `cpu`) and a C++ compiler. If something is missing, XLA
is used instead: that is never an error.
"""

import ctypes
import functools
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jaxlib
import numpy as np

from cnnjax import cache, files, machine
from cnnjax.errors import UserError

HERE = Path(__file__).parent
SOURCES = {
    path.name: path.read_text() for path in sorted(HERE.iterdir()) if path.suffix in (".cc", ".h")
}
FUNCTIONS = {
    "convolution": "CnnjaxConvolution",
    "pool_max": "CnnjaxPoolMax",
    "pool_take": "CnnjaxPoolTake",
    "pool_put": "CnnjaxPoolPut",
    "sums": "CnnjaxSums",
}
OPTIONS = ("-std=c++17", "-O3", "-DNDEBUG", "-march=native", "-fopenmp", "-fPIC")
_DIGEST = cache.digest([SOURCES, OPTIONS])


def target(function: str) -> str:
    """The name under which XLA calls a function. It contains a digest of the sources, because
    cached programs refer to it."""
    return f"cnnjax_{function}_{_DIGEST}"


class Missing(Exception):
    """Why there is no native library, in half a line."""


@functools.cache
def missing() -> str | None:
    """Why there is no native library on this machine; None if there is one."""
    try:
        _load()
    except Missing as error:
        return str(error)
    return None


def supports(numbers: np.ndarray) -> bool:
    """Whether oneDNN has the convolution that these numbers describe (see convolution.cc). To be
    called only if nothing is `missing`."""
    numbers = np.ascontiguousarray(numbers, np.int64)
    return bool(_load().cnnjax_supports(numbers.ctypes.data_as(ctypes.c_void_p)))


@functools.cache
def _load() -> ctypes.CDLL:
    """The library, its functions registered with XLA. Raises Missing."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        raise Missing(f"it is made for Linux on x86-64, and this is {platform.platform()}")
    onednn, headers = _onednn()
    compiler = _compiler()
    key = {
        "sources": SOURCES,
        "options": OPTIONS,
        "jaxlib": jaxlib.__version__,
        "compiler": [compiler, _output([*compiler, "--version"])],
        "onednn": [str(onednn), onednn.stat().st_size],
        "processor": [machine.processor(), machine.instructions()],
    }
    build = functools.partial(_build, compiler=compiler, onednn=onednn, headers=headers)
    try:
        folder = cache.private("native") / cache.digest(key)
        cache.folder(folder, build)
        if not _is_intact(folder) or cache.writable_by_others(folder / "library.so"):
            cache.folder(folder, build, overwrite=True)
        if reason := cache.writable_by_others(folder / "library.so"):
            raise Missing(reason)
        library = ctypes.CDLL(str(folder / "library.so"))
    except OSError as error:
        raise Missing(f"its library cannot be loaded: {error}") from None
    except (cache.Untrusted, UserError) as error:
        raise Missing(str(error)) from None
    library.cnnjax_set_threads(machine.threads())
    for function, symbol in FUNCTIONS.items():
        handler = jax.ffi.pycapsule(getattr(library, symbol))
        jax.ffi.register_ffi_target(target(function), handler, platform="cpu")
    return library


def _is_intact(folder: Path) -> bool:
    """Whether the library is as built: a truncated one would crash the process."""
    try:
        return (folder / "sha256").read_text() == files.sha256(folder / "library.so")
    except (OSError, UnicodeDecodeError):
        return False


def _onednn() -> tuple[Path, Path]:
    """oneDNN's shared library and the folder of its headers."""
    located = []
    for package, ending in (
        ("onednn-cpu-gomp", "libdnnl.so.3"),
        ("onednn-devel-cpu-gomp", "include/oneapi/dnnl/dnnl.hpp"),
    ):
        try:
            paths = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            raise Missing(f"no package {package}; pip install 'cnnjax[cpu]'") from None
        path = next((Path(p.locate()).resolve() for p in paths if str(p).endswith(ending)), None)
        if path is None or not path.is_file():
            raise Missing(f"{path or ending} is missing; install {package} again")
        located.append(path)
    library, header = located
    return library, header.parents[2]


def _compiler() -> list[str]:
    """$CXX, else the first C++ compiler on the path."""
    if command := os.environ.get("CXX"):
        return shlex.split(command)
    for name in ("g++", "c++", "clang++"):
        if path := shutil.which(name):
            return [path]
    raise Missing("no C++ compiler; install g++")


def _build(folder: Path, compiler: list[str], onednn: Path, headers: Path) -> None:
    """Compiles the library into an empty folder, all sources at once."""
    sources = [name for name in SOURCES if name.endswith(".cc")]
    objects = [folder / f"{name}.o" for name in sources]
    includes = ["-isystem", jax.ffi.include_dir(), "-isystem", str(headers)]
    commands = [
        [*compiler, *OPTIONS, *includes, "-c", str(HERE / name), "-o", str(output)]
        for name, output in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(_output, commands))
    library = ["-o", str(folder / "library.so"), str(onednn), f"-Wl,-rpath,{onednn.parent}"]
    _output([*compiler, *OPTIONS, "-shared", *map(str, objects), *library])
    for path in objects:
        path.unlink()
    (folder / "sha256").write_text(files.sha256(folder / "library.so"))
    for path in (folder, *folder.iterdir()):  # not writable by others, whatever the umask
        path.chmod(0o755)


def _output(command: list[str]) -> str:
    """What a command prints. Raises Missing if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise Missing(f"{command[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise Missing(f"{command[0]} failed: {first.strip()[:200]}")
    return done.stdout
