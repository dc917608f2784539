"""Two sweeps side by side."""

import json

import pytest
import workdirs

from cnnjax.report import comparison
from cnnjax.report.document import NOTICE
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


def test_verdicts_arms_and_set_up_are_shown_side_by_side(two, tmp_path):
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
    assert NOTICE[0] not in html + text
    assert "<b>second" not in html
    assert "&lt;b&gt;second" in html


def test_different_data_of_the_same_name_are_noted(two, tmp_path):
    for folder, classes in zip(two, ("a, b", "a, b, c"), strict=True):
        path = folder / "study.json"
        data = [{"name": "folder:/x", "class_names": classes}]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data}))
    text = comparison.write(*two, tmp_path / "page.html").with_suffix(".md").read_text()
    assert "folder:/x: class_names 'a, b' -&gt; 'a, b, c'." in text


def test_an_arm_is_compared_seed_by_seed(two, tmp_path):
    for seed in range(5):
        for folder, value in zip(two, (0.80, 0.82), strict=True):
            split = {"accuracy": value + 0.01 * seed, "loss": 1.0, "examples": 100}
            workdirs.edit(folder, "relu", seed, validation=split)
    text = comparison.write(*two, tmp_path / "page.html").with_suffix(".md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| relu | 8"))
    assert line == r"| relu | 82.00 | 84.00 | +2.00 | \[2.00, 2.00\] | 5 |"


def score(workdir, arm, values):
    """Accuracies by seed."""
    for seed, value in values.items():
        split = {"accuracy": value, "loss": 1.0, "examples": 100}
        workdirs.edit(workdir, arm, seed, validation=split)


def page_text(first, second, tmp_path):
    return comparison.write(first, second, tmp_path / "page.html").with_suffix(".md").read_text()


def test_means_are_over_the_seeds_of_both_and_the_others_are_listed(tmp_path):
    """One run is in both; the others of one must not move its mean."""
    first = workdirs.make(tmp_path / "first", {"relu": 0.9}, only=(0, 1, 2))
    second = workdirs.make(tmp_path / "second", {"relu": 0.9}, only=(0, 7))
    score(first, "relu", {0: 0.9, 1: 0.99, 2: 0.97})
    score(second, "relu", {0: 0.9, 7: 0.5})
    text = page_text(first, second, tmp_path)
    assert "**Seeds in both:** 0." in text
    assert "| relu | 90.00 | 90.00 | 0.00 | – | 1 |" in text
    assert "| relu | first | 1, 2 | 98.00 |" in text
    assert "| relu | second | 7 | 50.00 |" in text


def test_sweeps_without_a_seed_in_common_have_no_difference(tmp_path):
    first = workdirs.make(tmp_path / "first", {"relu": 0.9}, only=(0, 1))
    second = workdirs.make(tmp_path / "second", {"relu": 0.8}, only=(2, 3))
    text = page_text(first, second, tmp_path)
    assert "**Seeds in both:** none." in text
    assert "| relu | – | – | – | – | 0 |" in text
    assert "arms.svg" not in text


def test_intervals_of_differences_end_at_a_hundred_points(tmp_path):
    first = workdirs.make(tmp_path / "first", {"relu": 0.9}, 2)
    second = workdirs.make(tmp_path / "second", {"relu": 0.9}, 2)
    score(first, "relu", {0: 0.1, 1: 0.9})
    score(second, "relu", {0: 0.9, 1: 0.2})
    assert r"| +5.00 | \[−100.00, 100.00\] | 2 |" in page_text(first, second, tmp_path)


def test_an_untested_claim_does_not_differ(tmp_path):
    claims = [*CLAIMS, {"kind": "better", "sides": ["relu", "old"]}]
    first = workdirs.make(tmp_path / "a", {"relu": 0.9, "tanh": 0.85}, 5, claims=claims)
    second = workdirs.make(tmp_path / "b", {"relu": 0.9, "old": 0.5}, 5, claims=claims[1:])
    lines = page_text(first, second, tmp_path).splitlines()
    (tanh,) = (line for line in lines if line.startswith("| relu beats tanh"))
    (old,) = (line for line in lines if line.startswith("| relu beats old"))
    assert "| supported |" in tanh
    assert tanh.endswith("| not claimed |  |  |")
    assert "| not put to the test |  | supported |" in old
    assert old.endswith("|  |")


def test_arms_of_one_configuration_are_compared_whatever_they_are_called(tmp_path):
    """And so are the claims about them."""
    same = {"model.activation": "tanh"}
    first = workdirs.make(tmp_path / "a", {"relu": 0.9, "tanh": 0.8}, 5, claims=CLAIMS)
    second = workdirs.make(
        tmp_path / "b",
        {"rectified": 0.9, "hyperbolic": 0.95, "elu": 0.9},
        5,
        overrides={"rectified": {"model.activation": "relu"}, "hyperbolic": same},
        claims=[{"kind": "better", "sides": ["rectified", "hyperbolic"]}],
    )
    score(first, "relu", dict.fromkeys(range(5), 0.9))
    score(second, "rectified", dict.fromkeys(range(5), 0.91))
    text = page_text(first, second, tmp_path)
    assert r"| relu / rectified | 90.00 | 91.00 | +1.00 | \[1.00, 1.00\] | 5 |" in text
    assert "| tanh / hyperbolic |" in text
    assert "**Only in b:** elu." in text
    (verdict,) = (line for line in text.splitlines() if line.startswith("| relu beats tanh"))
    assert "| supported |" in verdict
    assert verdict.endswith("| differ |")


def test_studies_that_share_nothing_are_listed(two, tmp_path):
    other = workdirs.make(tmp_path / "other", {"elu": 0.9}, 2)
    text = page_text(two[0], other, tmp_path)
    assert "0 arms in common" in text
    assert "**Only in first:** relu, tanh, old." in text
    assert "**Only in other:** elu." in text
    assert "| relu beats tanh |  | supported |" in text
    done = program("launch.report", "--compare", str(two[0]), check=2)
    assert "takes two folders: --compare DIR1 DIR2" in done.stderr


def test_the_program_prints_the_path_and_counts_final_looks(two, tmp_path):
    output = tmp_path / "both.html"
    words = ["--compare", *map(str, two), f"--output={output}", "--final"]
    done = program("launch.report", *words)
    assert done.stdout.strip() == f"report: {output}"
    for folder in two:
        assert len(json.loads((folder / "study.json").read_text())["looks_at_test"]) == 1
