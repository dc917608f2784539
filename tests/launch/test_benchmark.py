"""The benchmark compares contenders that train the same network, and refuses others."""

import ast
import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from cnnjax.errors import UserError
from common import ROOT, program
from launch import benchmark, contender, timing


def test_a_small_benchmark_writes_figures_and_a_plot(tmp_path):
    hurried = (
        "from launch import benchmark, flags\n"
        "benchmark.SECONDS = 0.1\n"
        "flags.start('benchmark', benchmark.main)\n"
    )
    words = (
        f"--workdir={tmp_path}", "--networks=lenet5_modern", "--rounds=2", "--batch_size=8",
        "--contenders=cnnjax xla,cnnjax 4 steps,cnnjax 2 replicas,flax",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", hurried, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "lenet5_modern: round 2 of 2" in done.stdout
    written = json.loads((tmp_path / "benchmark.json").read_text())
    figures = written["networks"]["lenet5_modern"]
    assert list(figures) == ["cnnjax xla", "cnnjax 4 steps", "cnnjax 2 replicas", "flax"]
    assert [figure.get("images_a_call") for figure in figures.values()] == [8, 32, 16, None]
    for figure in figures.values():
        assert len(figure["images_per_second"]) == 2
        assert min(figure["images_per_second"]) > 0
        assert figure["peak_bytes"] > 1e8
        assert figure["losses"][1] < figure["losses"][0]
        assert figure["losses"] == pytest.approx(figures["cnnjax xla"]["losses"], rel=1e-5)
    assert "lenet5_modern" in (tmp_path / "benchmark.svg").read_text()


@pytest.mark.parametrize(("module", "options"), [("flax_peer", ()), ("torch_peer", (False,))])
def test_the_network_for_every_pixel_is_the_same(tmp_path, monkeypatch, module, options):
    pytest.importorskip(benchmark.CONTENDERS[module.removesuffix("_peer")].package)
    peer = importlib.import_module(f"peers.{module}")
    path = contender.write_task(tmp_path, "unet", batch_size=2, precision="float32", threads=1)
    task = json.loads(path.read_text())
    steps = []
    monkeypatch.setattr(timing, "serve", lambda step, *_: steps.append(step))
    peer.main(task, *options)
    ours, _ = contender.prepare(task, "xla")
    losses = [step() for step in (steps[0], steps[0])]
    assert losses == pytest.approx([*ours(), *ours()], rel=1e-5)
    assert losses[1] < losses[0]


def test_masks_are_a_function_of_the_image_except_at_the_border():
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    mask = contender.targets("segmentation", images, np.random.default_rng(0))
    assert mask.shape == (2, 8, 8)
    inside = mask[:, 1:-1, 1:-1]
    assert np.array_equal(inside, images[:, 1:-1, 1:-1, 0] * 10.0 // 256)
    assert set(inside.flat) == set(range(10))
    assert (mask == 255).sum() == 2 * (64 - 36)


@pytest.mark.parametrize("name", ["flax", "keras", "torch"])
def test_what_a_peer_lacks_is_what_it_does_not_define(name):
    source = (ROOT / f"tests/peers/{name}_peer.py").read_text()
    (table,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NETWORKS"
    )
    networks = {ast.literal_eval(key) for key in table.keys}
    lacks = benchmark.CONTENDERS[name].lacks
    assert networks.isdisjoint(lacks)
    assert networks.union(lacks) == set(contender.IMAGES)


def test_contenders_without_the_network_are_left_out_with_a_reason(capsys):
    contenders = {name: benchmark.CONTENDERS[name] for name in ("flax", "keras")}
    assert list(benchmark._that_have("unet", contenders)) == ["flax"]
    printed = capsys.readouterr().out
    assert printed == (
        "unet: keras is left out, tests.peers.keras_peer does not have this network\n"
    )
    assert benchmark._that_have("vgg_small", contenders) == contenders
    with pytest.raises(UserError, match="--networks: none of the contenders has 'unet'"):
        benchmark._that_have("unet", {"keras": contenders["keras"]})


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--contenders=torhc", "--contenders: unknown 'torhc'. Did you mean 'torch'?"),
        ("--contenders=cnnjax 0 steps", "--contenders: unknown 'cnnjax 0 steps'. Did you mean"),
        ("--contenders=cnnjax 8 step", "Did you mean 'cnnjax 8 steps'?"),
        ("--precision=float16", "--precision: unknown 'float16'. Did you mean 'bfloat16'?"),
        ("--networks=resnet2", "--networks: unknown 'resnet2'. Did you mean 'resnet20'?"),
        ("--rounds=0", "rounds"),
        ("--contenders=flax,flax", "--contenders: 'flax' is given twice."),
    ],
)
def test_wrong_flags_are_errors(tmp_path, flag, message):
    done = program("launch.benchmark", f"--workdir={tmp_path}", flag, check=2)
    assert message in done.stderr


@pytest.mark.parametrize("losses", [[2.0, 1.5], [2.3, 2.4]])
def test_contenders_that_train_another_network_are_refused(losses):
    class Answered:
        def __init__(self, *pair):
            self.about = {"losses": list(pair)}

    same = {name: Answered(2.3, 2.2) for name in ("a", "b", "c")}
    benchmark._check_losses("net", "float32", same)
    with pytest.raises(UserError, match="net: d has losses"):
        benchmark._check_losses("net", "float32", same | {"d": Answered(*losses)})


def test_the_error_of_a_contender_that_stops_is_its_last_line():
    with pytest.raises(UserError, match=r"x stopped: .*No module"):
        timing.TimedProcess("x", ["no_such_module"]).steps_within(1)


def test_ratios_compare_contenders_within_each_round():
    ratios = benchmark._ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert ratios == {"ratio": 2.0, "ratios": [2.0, 3.0, 1.0]}
    assert benchmark._ratios([2.0], None) == {}


def test_without_a_device_the_error_is_that_of_jax(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "no_such_platform")
    with pytest.raises(UserError, match=r"^JAX_PLATFORMS: .*unknown 'no_such_platform'"):
        benchmark._device()


def test_contenders_that_are_not_available_are_left_out_with_a_reason(tmp_path):
    done = program(
        "launch.benchmark", f"--workdir={tmp_path}", "--contenders=cnnjax native",
        check=2, CXX="no-such-compiler", CNNJAX_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert "cnnjax native: left out, no-such-compiler cannot be started" in done.stdout
    assert "error: --contenders: none of them is available." in done.stderr


def test_a_workdir_that_cannot_be_written_is_an_error_before_measuring():
    done = program(
        "launch.benchmark", "--workdir=/proc/no/such", "--contenders=cnnjax xla", check=2
    )
    assert "error: /proc/no/such/benchmark.json: cannot be written" in done.stderr
    assert "starting" not in done.stdout
