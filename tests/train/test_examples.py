"""The examples of a split that are kept with their images."""

import dataclasses

import numpy as np
import pytest

from cnnjax.metric import Metric
from cnnjax.tasks import classification, localization, segmentation
from cnnjax.train import examples
from cnnjax.train.evaluation import SplitEvaluation
from cnnjax.train.session import Session
from common import small


def evaluation(task=classification.TASK, ids=None, targets=(), predictions=(), **statistics):
    arrays = {name: np.asarray(values) for name, values in statistics.items()}
    count = len(next(iter(arrays.values())))
    ids = np.arange(count) if ids is None else np.asarray(ids)
    return SplitEvaluation(task, ids, dict(targets), arrays, dict(predictions))


WITHOUT_MISTAKES = dataclasses.replace(classification.TASK, mistakes=None)


def test_the_first_metric_orders_then_the_next_then_the_id():
    evaluated = evaluation(
        WITHOUT_MISTAKES,
        ids=[9, 8, 7, 6, 5, 4, 3],
        accuracy=[1, 0, 1, 1, 0, 1, 1],
        loss=[0.3, 0.05, 0.1, 0.5, np.nan, 0.3, 0.4],
    )
    # right by loss: 2 (0.1), then 5 before 0 (equal losses, id 4 before 9), 6, 3; wrong: 1, 4
    assert examples.choose(evaluated) == [
        ("best", 2), ("best", 5), ("median", 0), ("median", 6), ("worst", 1), ("worst", 4),
    ]  # fmt: skip


def test_a_lower_value_is_better_where_the_metric_says_so():
    error = Metric("error", higher_is_better=False)
    task = dataclasses.replace(WITHOUT_MISTAKES, metrics=(error,))
    chosen = examples.choose(evaluation(task, error=[5.0, 1, 4, 2, 3, 6]))
    assert chosen[0] == ("best", 1)
    assert chosen[-1] == ("worst", 5)


def test_a_metric_of_the_whole_split_orders_nothing():
    evaluated = evaluation(
        segmentation.TASK,
        image_iou=[0.9, 0.1, 0.5, 0.6, 0.7, 0.2],
        boundary_f1=np.zeros(6),
        stride_pattern=np.zeros((6, 4, 2)),
        loss=np.zeros(6),
        confusion=np.zeros((6, 2, 2), int),
    )
    assert [position for _, position in examples.choose(evaluated)] == [0, 4, 3, 2, 5, 1]
    corpus = (Metric("whole", kind="corpus"),)
    without = dataclasses.replace(WITHOUT_MISTAKES, metrics=corpus, figures=lambda statistics: {})
    assert examples.choose(evaluation(without, whole=np.zeros(6))) == []


@pytest.mark.parametrize(
    ("count", "kinds"),
    [
        (1, ["best"]),
        (2, ["best", "best"]),
        (3, ["best", "best", "worst"]),
        (4, ["best", "best", "worst", "worst"]),
        (5, ["best", "best", "median", "worst", "worst"]),
        (6, ["best", "best", "median", "median", "worst", "worst"]),
    ],
)
def test_no_example_is_kept_twice(count, kinds):
    evaluated = evaluation(WITHOUT_MISTAKES, accuracy=np.ones(count), loss=np.arange(count))
    chosen = examples.choose(evaluated)
    assert [kind for kind, _ in chosen] == kinds
    assert [position for _, position in chosen] == sorted({position for _, position in chosen})


def test_mistakes_come_by_the_probability_of_the_wrong_class():
    logits = np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    labels = np.array([1, 1, 0, 1, 0])
    sureness = classification.mistakes({"logits": logits}, {"label": labels})
    np.testing.assert_allclose(sureness, [0.9, 0, 0.7, 0.6, 0.9])
    evaluated = evaluation(
        ids=[3, 2, 1, 0, 4],
        targets={"label": labels},
        predictions={"logits": logits},
        accuracy=[0, 1, 0, 0, 0],
        loss=np.arange(5),
    )
    mistakes = [position for kind, position in examples.choose(evaluated) if kind == "mistake"]
    assert mistakes == [0, 4, 2, 3]  # 0 and 4 are equally sure: by id; 1 is right
    right = dataclasses.replace(evaluated, targets={"label": logits.argmax(1)})
    assert "mistake" not in [kind for kind, _ in examples.choose(right)]


@pytest.fixture(scope="module")
def session():
    return Session()


@pytest.mark.parametrize("pipeline", ["memory", "stream"])
def test_the_file_holds_images_and_arrays_of_the_chosen_examples(tmp_path, session, pipeline):
    config = small(data__name="digit_boxes", data__pipeline=pipeline, task="localization")
    dataset = session.dataset(config, 0)
    split = dataset.splits["validation"]
    random = np.random.default_rng(0)
    count = len(split)
    names = [metric.name for metric in localization.TASK.metrics]
    evaluated = SplitEvaluation(
        localization.TASK,
        split.ids,
        split.targets,
        {name: random.random(count).astype(np.float32) for name in names},
        {"logits": random.random((count, 10)), "predicted_box": random.random((count, 4))},
    )
    path = tmp_path / "examples_validation.npz"
    examples.write(path, evaluated, dataset, "validation")
    kept = np.load(path, allow_pickle=False)
    positions = np.array([position for _, position in examples.choose(evaluated)])
    assert kept["kind"].tolist()[:6] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    assert kept["kind"].tolist()[6:] == ["mistake"] * 4
    np.testing.assert_array_equal(kept["ids"], split.ids[positions])
    np.testing.assert_array_equal(kept["images"], dataset.at("validation", positions)[0])
    assert kept["images"].dtype == np.uint8
    for name in ("label", "box"):
        np.testing.assert_array_equal(kept[f"target.{name}"], split.targets[name][positions])
    for name in ("logits", "predicted_box"):
        np.testing.assert_array_equal(
            kept[f"prediction.{name}"], evaluated.predictions[name][positions]
        )
    best = np.sort(evaluated.statistics[names[0]])[::-1]
    np.testing.assert_array_equal(kept[f"metric.{names[0]}"][:2], best[:2])
    assert kept["class_names"].tolist() == list(dataset.spec.class_names)
    assert kept["mask_names"].shape == (0,)
