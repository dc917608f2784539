"""Two sweeps side by side."""

import json

import pytest
import workdirs

from cnnjax.errors import UserError
from cnnjax.report import comparison
from common import program

CLAIMS = [{"kind": "better", "sides": ["relu", "tanh"]}]


@pytest.fixture
def two(tmp_path):
    arms = {"relu": 0.9, "tanh": 0.85, "old": 0.5}
    first = workdirs.make(tmp_path / "first", arms, 5, claims=CLAIMS)
    arms = {"relu": 0.9, "tanh": 0.95}
    second = workdirs.make(tmp_path / "<b>second", arms, 5, claims=CLAIMS)
    path = second / "study.json"
    study = json.loads(path.read_text())
    for arm in study["arms"].values():
        arm["config"]["training"]["epochs"] = 9
    path.write_text(json.dumps(study))
    return first, second


def test_verdicts_arms_and_set_up_stand_beside_each_other(two, tmp_path):
    page = comparison.write(*two, tmp_path / "page.html")
    text = page.with_suffix(".md").read_text()
    (verdict,) = (line for line in text.splitlines() if line.startswith("| relu beats tanh"))
    assert "| supported |" in verdict
    assert "| contradicted |" in verdict
    assert verdict.endswith("| differ |")
    assert "| training.epochs | 5 | 9 | all |" in text
    assert "old." in text
    assert "page_figures/arms.svg" in text
    html = page.read_text()
    assert "<b>second" not in html
    assert "&lt;b&gt;second" in html


def test_an_arm_is_compared_seed_by_seed(two, tmp_path):
    for seed in range(5):
        for folder, value in zip(two, (0.80, 0.82), strict=True):
            split = {"accuracy": value + 0.01 * seed, "loss": 1.0, "examples": 100}
            workdirs.edit(folder, "relu", seed, validation=split)
    text = comparison.write(*two, tmp_path / "page.html").with_suffix(".md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| relu | 8"))
    assert line == r"| relu | 82.00 | 84.00 | +2.00 | \[2.00, 2.00\] | 5 |"


def test_what_cannot_be_compared(two, tmp_path):
    other = workdirs.make(tmp_path / "other", {"elu": 0.9}, 2)
    with pytest.raises(UserError, match="have no arm in common"):
        comparison.write(two[0], other, tmp_path / "page.html")
    done = program("launch.report", "--compare", str(two[0]), check=2)
    assert "takes two folders: --compare DIR1 DIR2" in done.stderr


def test_the_program_says_where_it_is_and_counts_final_looks(two, tmp_path):
    output = tmp_path / "both.html"
    words = ["--compare", *map(str, two), f"--output={output}", "--final"]
    done = program("launch.report", *words)
    assert done.stdout.strip() == f"report: {output}"
    for folder in two:
        assert len(json.loads((folder / "study.json").read_text())["looks_at_test"]) == 1
