"""The benchmark compares contenders that train the same network, and refuses others."""

import json

import pytest

from cnnjax.errors import UserError
from common import program
from launch import benchmark, timing


def test_a_small_benchmark_writes_figures_and_a_plot(tmp_path):
    done = program(
        "launch.benchmark", f"--workdir={tmp_path}", "--networks=lenet5_modern", "--rounds=2",
        "--contenders=cnnjax xla,cnnjax 4 steps,cnnjax 2 replicas,flax", "--batch_size=8",
    )  # fmt: skip
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
