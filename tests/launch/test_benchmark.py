"""The benchmark: it compares equals, and says where it does not."""

import json

import pytest

from cnnjax.errors import UserError
from common import program
from launch import benchmark, contenders


def test_it_times_and_writes_and_draws(tmp_path):
    done = program(
        "launch.benchmark", f"--workdir={tmp_path}", "--networks=lenet5_modern", "--rounds=2",
        "--contenders=cnnjax xla,flax", "--batch_size=8",
    )  # fmt: skip
    assert "lenet5_modern: round 2 of 2" in done.stdout
    found = json.loads((tmp_path / "benchmark.json").read_text())
    figures = found["networks"]["lenet5_modern"]
    assert list(figures) == ["cnnjax xla", "flax"]
    for figure in figures.values():
        assert len(figure["images_per_second"]) == 2
        assert min(figure["images_per_second"]) > 0
        assert figure["peak_bytes"] > 1e8
        assert figure["losses"][1] < figure["losses"][0]
    assert figures["flax"]["losses"] == pytest.approx(figures["cnnjax xla"]["losses"], rel=1e-5)
    assert "lenet5_modern" in (tmp_path / "benchmark.svg").read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--contenders=torhc", "--contenders: unknown 'torhc'. Did you mean 'torch'?"),
        ("--networks=resnet", "--networks: unknown 'resnet'. Did you mean 'resnet20'?"),
        ("--rounds=0", "rounds"),
    ],
)
def test_wrong_words_are_answered(tmp_path, flag, message):
    done = program("launch.benchmark", f"--workdir={tmp_path}", flag, check=2)
    assert message in done.stderr


@pytest.mark.parametrize("losses", [[2.0, 1.5], [2.3, 2.4]])
def test_contenders_that_train_another_network_are_refused(losses, monkeypatch):
    class Answered:
        def __init__(self, *pair):
            self.about = {"losses": list(pair)}

    monkeypatch.setattr(benchmark.flags, "FLAGS", type("F", (), {"precision": "float32"}))
    same = {name: Answered(2.3, 2.2) for name in ("a", "b", "c")}
    benchmark._agree("net", same)
    with pytest.raises(UserError, match="net: d has losses"):
        benchmark._agree("net", same | {"d": Answered(*losses)})


def test_a_contender_that_stops_is_told_with_its_last_line():
    with pytest.raises(UserError, match=r"benchmark: x stopped: .*No module"):
        contenders.Contender("x", ["no_such_module"])
