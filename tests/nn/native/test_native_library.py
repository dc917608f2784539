"""How the native library is made, loaded and done without, most of it in processes of its own."""

import ctypes
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cnnjax import files
from cnnjax.nn.native import library
from common import ROOT, program

pytestmark = pytest.mark.skipif(bool(library.missing()), reason=str(library.missing()))

PREAMBLE = """
import jax, jax.numpy as jnp, numpy as np
from cnnjax.nn.native import library
from cnnjax.nn.native.convolution import conv_general_dilated
LAYOUT = ("NHWC", "HWIO", "NHWC")
def conv(x, k):
    return conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=LAYOUT)
x, k = jnp.ones((8, 16, 16, 4)), jnp.ones((3, 3, 4, 8))
expected = jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=LAYOUT)
"""


def start(code, threads=1, **environment):
    environment = {**os.environ, "PJRT_NPROC": str(threads), **environment}
    words = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    return output


def run(code, threads=1, **environment):
    return finish(start(code, threads, **environment))


USE = "assert library.missing() is None, library.missing(); print(float(conv(x, k).sum()))"


def test_processes_that_start_at_once_compile_it_once(tmp_path):
    before = os.umask(0)
    processes = [start(USE, CNNJAX_CACHE=str(tmp_path)) for _ in range(3)]
    os.umask(before)
    assert len({finish(process) for process in processes}) == 1
    made = [path for path in (tmp_path / "native").iterdir() if path.is_dir()]
    assert [sorted(file.name for file in path.iterdir()) for path in made] == [
        ["library.so", "sha256"]
    ]
    assert {path.stat().st_mode & 0o022 for path in (*made, *made[0].iterdir())} == {0}


def test_a_damaged_library_is_made_again(tmp_path):
    first = run(USE, CNNJAX_CACHE=str(tmp_path))
    (file,) = tmp_path.glob("native/*/library.so")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    assert run(USE, CNNJAX_CACHE=str(tmp_path)) == first
    assert file.stat().st_size == len(whole)


@pytest.fixture
def loaded(monkeypatch):
    """What is in the libraries that are loaded; one is built at once, and does not work."""
    contents = []

    def build(folder, **_):
        (folder / "library.so").write_text("ours")
        (folder / "sha256").write_text(files.sha256(folder / "library.so"))

    def load(path):
        contents.append(Path(path).read_text())
        raise OSError("no library")

    monkeypatch.setattr(library, "_build", build)
    monkeypatch.setattr(ctypes, "CDLL", load)
    return contents


def test_a_library_that_others_could_have_written_is_built_again(shared_cache, loaded):
    common, _ = shared_cache
    for writable in (None, "library.so", "."):
        for file in common.glob("native/*/library.so"):
            file.write_text("theirs")
            (file.parent / "sha256").write_text(files.sha256(file))
            (file.parent / writable).chmod(0o757)
        with pytest.raises(library.Missing, match="no library"):
            library._load.__wrapped__()
        assert loaded.pop() == "ours"


def test_a_library_that_others_can_write_again_is_not_loaded(shared_cache, loaded, monkeypatch):
    build = library._build

    def open_to_all(folder, **about):
        build(folder, **about)
        (folder / "library.so").chmod(0o666)

    monkeypatch.setattr(library, "_build", open_to_all)
    with pytest.raises(library.Missing, match=r"library\.so can be written by others"):
        library._load.__wrapped__()
    assert not loaded


def test_without_a_folder_that_is_the_users_alone_nothing_is_loaded(shared_cache, loaded):
    common, own = shared_cache
    common.chmod(0o777)
    with pytest.raises(library.Missing, match="no library"):
        library._load.__wrapped__()
    assert list(own.glob("native/*/library.so"))
    own.chmod(0o777)
    with pytest.raises(library.Missing, match=f"{common} can be written by others .*; {own} can"):
        library._load.__wrapped__()
    assert loaded == ["ours"]


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", "no-such-compiler cannot be started: No such file or directory"),
        ("false", "false failed"),
    ],
)
def test_without_a_compiler_xla_is_used_and_one_line_says_so(tmp_path, compiler, reason):
    done = program(
        "launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0",
        f"--workdir={tmp_path / 'study'}", "--set=training.steps=2", "--set=data.train_examples=64",
        CXX=compiler, CNNJAX_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    result = json.loads((tmp_path / "study/relu/seed-0/result.json").read_text())
    assert result["runtime"]["convolution"] == "xla"


def test_a_run_keeps_the_convolution_it_began_with(tmp_path):
    workdir = tmp_path / "study"
    words = (
        "launch.train", "--experiment=quickstart", "--arm=relu", "--seeds=0",
        f"--workdir={workdir}", "--set=training.steps=2", "--set=data.train_examples=64",
    )  # fmt: skip
    program(*words)
    result = workdir / "relu/seed-0/result.json"
    assert json.loads(result.read_text())["runtime"]["convolution"] == "native"
    result.unlink()
    done = program(*words, CXX="no-such-compiler", check=1)
    assert "convolution is 'native' there and 'xla' now" in done.stdout


def test_several_devices_are_xlas():
    code = """
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    mesh = Mesh(jax.devices(), ("d",))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("d",), ()))
    both = jax.jit(conv, in_shardings=(split, whole))
    assert library.target("convolution") not in both.lower(x, k).as_text()
    np.testing.assert_allclose(both(x, k), expected, rtol=1e-6)
    mapped = jax.pmap(conv, in_axes=(0, None))
    parts = x.reshape(2, 4, *x.shape[1:])
    assert library.target("convolution") not in mapped.lower(parts, k).as_text()
    np.testing.assert_allclose(mapped(parts, k).reshape(expected.shape), expected, rtol=1e-6)
    assert library.target("convolution") in jax.jit(conv).lower(x, k).as_text()
    """
    run(code, XLA_FLAGS="--xla_force_host_platform_device_count=2")


def test_threads_may_call_it_at_once():
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        images = [jnp.full(x.shape, float(n)) for n in range(1, 9)]
        step = jax.jit(conv)
        with ThreadPoolExecutor(8) as pool:
            outputs = list(pool.map(lambda image: np.asarray(step(image, k)), images * 20))
        for number, one in enumerate(outputs):
            np.testing.assert_allclose(one, (number % 8 + 1) * expected, rtol=1e-6)
        """,
        threads=2,
    )


def test_a_forked_process_can_still_ask_it():
    run(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        jax.block_until_ready(conv(x, k))
        numbers = np.array([0, 3, 2, 8, 8, 4, 8, 8, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1])
        child = os.fork()
        if child == 0:
            os._exit(0 if library.supports(numbers) else 1)
        assert os.waitpid(child, 0)[1] == 0
        jax.block_until_ready(conv(x, k))
        """,
        threads=2,
    )


def test_memory_stays_flat():
    """10,000 steps of a network with all native functions, forward and backward."""
    run(
        """
        import resource
        from cnnjax.nn.native.normalization import BatchNorm
        from cnnjax.nn.native.pooling import max_pool
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
        x, k = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 8))
        norm = BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
        variables = norm.init(jax.random.key(0), conv(x, k))
        def loss(x, k):
            y, _ = norm.apply(variables, conv(x, k), mutable=["batch_stats"])
            return (max_pool(y) ** 2).sum()
        step = jax.jit(jax.grad(loss, argnums=(0, 1)))
        text = step.lower(x, k).as_text()
        for name in ("convolution", "pool_max", "pool_put", "sums"):
            assert f"@{library.target(name)}" in text, name
        for count in range(10_000):
            gradients = step(x, k)
            if count == 1000:
                before = resident()
        assert resident() - before < 4e6, (before, resident())
        """
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is missing; install onednn-cpu-gomp again"), (b"no library", "failed: ")],
)
def test_a_missing_or_broken_onednn_is_told_in_one_line(tmp_path, content, reason):
    """The package's file list names a file that is not there, or is no library."""
    broken = tmp_path / "libdnnl.so.3"
    if content is not None:
        broken.write_bytes(content)
    message = run(
        f"""
        import importlib.metadata as metadata, pathlib
        class Moved(type(metadata.files("onednn-cpu-gomp")[0])):
            def locate(self):
                return pathlib.Path({str(broken)!r})
        files = metadata.files
        metadata.files = lambda package: (
            [Moved("lib/libdnnl.so.3")] if package == "onednn-cpu-gomp" else files(package)
        )
        print(library.missing())
        np.testing.assert_allclose(conv(x, k), expected)
        """,
        CNNJAX_CACHE=str(tmp_path / "cache"),
    )
    assert len(message.splitlines()) == 1
    assert reason in message
