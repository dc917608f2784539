"""What a page says: ties, intervals, and how it is read."""

import re

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import blocks, claims, reading, statistics, verdicts
from cnnjax.metric import ACCURACY
from cnnjax.report import ablation, forest, formatting, statements

CLAIMS = [
    {"kind": "better", "sides": ["relu", "tanh"]},
    {"kind": "better", "sides": ["relu", "tanh"], "metric": "loss"},
]


def scored(workdir, arm, accuracies, losses=None, split="test"):
    for seed, accuracy in enumerate(accuracies):
        loss = losses[seed] if losses else 1.0
        figures = {"accuracy": accuracy, "loss": loss, "examples": 4}
        workdirs.edit(workdir, arm, seed, **{split: figures})


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1, 1, 0], "2 of 3 seeds, one tie"),
        ([1, 0, 0], "1 of 3 seeds, 2 ties"),
        ([-1, 1, 1], "2 of 3 seeds"),
    ],
)
def test_ties_are_counted_separately(differences, expected):
    assert formatting.ahead(differences, "3 seeds") == expected


def test_intervals_end_at_the_largest_possible_difference(tmp_path):
    """Those of losses do not."""
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 2, claims=CLAIMS)
    scored(tmp_path, "relu", [1.0, 0.5], [9.0, 1.0])
    scored(tmp_path, "tanh", [0.1, 0.4], [1.0, 2.0])
    study = reading.load(tmp_path, "test")
    accuracy, loss = verdicts.findings(study)
    (figures,) = statements.differences(accuracy)
    assert figures == "+50.00 points [−100.00, 100.00]"
    (figures,) = statements.differences(loss)
    low, high = (float(end) for end in re.findall(r"[\d.]+(?=[,\]])", figures.replace("−", "")))
    assert min(low, high) > 30
    sample = statistics.describe([1.0, 0.5], ACCURACY.ends)
    assert (sample.low, sample.high) == (0.0, 1.0)
    (block,) = blocks.compare(study)
    assert [(arm.sample.low, arm.sample.high) for arm in block.arms] == [(0.0, 1.0)] * 2
    text = ablation.write(tmp_path, final=True).page.with_suffix(".md").read_text()
    assert "(1 of 2" not in text
    assert r"\[−100.00, 100.00\]" in text


def test_a_contrast_can_be_twice_as_large_as_a_difference():
    far = statistics.compare({0: 2.0, 1: -0.5}, {0: 0.0, 1: 0.0}, ends=(-2.0, 2.0))
    assert (far.low, far.high) == far.interval(0.95) == (-2.0, 2.0)
    assert far.interval(0.1)[1] < 2


def predicted(workdir, right):
    """Runs that are right about the first of 4 images, so many for each seed of an arm."""
    images = np.arange(4)
    for arm, counts in right.items():
        scored(workdir, arm, [count / 4 for count in counts])
        for seed, count in enumerate(counts):
            hit = (images < count).astype(int)
            np.savez(
                workdir / arm / f"seed-{seed}" / "predictions_test.npz",
                ids=images,
                labels=np.zeros(4, int),
                logits=np.stack([hit, 1 - hit], 1),
            )


def test_intervals_of_interactions_end_at_twice_the_largest_difference(tmp_path):
    arms = ("relu_none", "relu_batch", "tanh_none", "tanh_batch")
    paths = ("model.activation", "model.norm.kind")
    overrides = {arm: dict(zip(paths, arm.split("_"), strict=True)) for arm in arms}
    gain = {paths[1]: ("none", "batch")}, {paths[0]: ("relu", "tanh")}
    workdirs.make(
        tmp_path, dict.fromkeys(arms, 0.5), 2, overrides=overrides, factors=paths,
        claims=[claims.to_dict(claims.interaction(*gain))],
    )  # fmt: skip
    for arm, values in zip(arms, ([1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]), strict=True):
        scored(tmp_path, arm, values)
    (finding,) = verdicts.findings(reading.load(tmp_path, "test"))
    assert finding.evidence.comparisons[0].paired.interval(0.95) == (-2.0, 2.0)


@pytest.mark.parametrize(
    ("tanh", "shown"), [([0, 0, 0, 4], False), ([3, 2, 3, 1], True)], ids=["equal", "wider"]
)
def test_an_equal_interval_of_other_images_is_not_in_the_table(tmp_path, tanh, shown):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 4)
    predicted(tmp_path, {"relu": [4, 4, 4, 4], "tanh": tanh})
    text = ablation.write(tmp_path, final=True).page.with_suffix(".md").read_text()
    assert ("| Other images |" in text) is shown


def test_the_report_warns_of_lost_predictions(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 4)
    predicted(tmp_path, {"relu": [4, 4, 4, 4], "tanh": [3, 2, 3, 1]})
    (tmp_path / "tanh/seed-2/predictions_test.npz").unlink()
    text = ablation.write(tmp_path, final=True).page.with_suffix(".md").read_text()
    assert "Predictions are lost." in text
    assert "Those of tanh/seed-2 are missing or damaged" in text


def test_an_equal_interval_of_other_images_is_not_in_the_sentence(tmp_path):
    """Every image differs alike, so that images add no doubt."""
    stated = [CLAIMS[0] | {"sides": ["relu", arm]} for arm in ("tanh", "elu")]
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8, "elu": 0.8}, 4, claims=stated)
    right = {"relu": [4, 4, 4, 4], "tanh": [0, 0, 0, 4], "elu": [3, 2, 3, 1]}
    predicted(tmp_path, right)
    same, other = verdicts.findings(reading.load(tmp_path, "test"))
    assert same.evidence.comparisons[0].population is not None
    assert "for other images too" not in statements.figures(same)
    assert "for other images too: [" in statements.figures(other)


def test_verdicts_link_to_their_explanation(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 3, claims=CLAIMS)
    page = ablation.write(tmp_path).page
    assert '<a href="#how-to-read-this">How to read this</a></p>' in page.read_text()
    assert page.read_text().count('id="how-to-read-this"') == 1
    text = page.with_suffix(".md").read_text()
    assert "[How to read this](#how-to-read-this)" in text
    assert "\n## How to read this\n" in text


def test_a_sentence_ends_once():
    assert [statements._ended(text) for text in ("a", "a.", "why?")] == ["a.", "a.", "why?"]


def test_a_row_of_the_plot_of_claims_names_the_metric_where_they_differ(tmp_path):
    workdirs.make(
        tmp_path,
        {"relu": 0.9, "tanh": 0.8},
        4,
        claims=[{"kind": "better", "sides": ["relu", "tanh"]}],
    )
    (finding,) = verdicts.findings(reading.load(tmp_path))
    (comparison,) = finding.evidence.comparisons
    assert forest._label(finding, comparison, with_metric=False) == "relu − tanh"
    assert forest._label(finding, comparison, with_metric=True) == "relu − tanh, accuracy"


def test_a_capital_leaves_the_names_of_metrics():
    assert formatting.capitalized("test mIoU") == "Test mIoU"
