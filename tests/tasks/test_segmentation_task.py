"""Loss and metrics of segmentation, against hand-computed values, scikit-learn and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from cnnjax import config as configs
from cnnjax.data.targets import IGNORE
from cnnjax.tasks import segmentation

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 7, 4)).astype(np.float32)
MASK = RNG.integers(0, 4, (3, 5, 7)).astype(np.uint8)
MASK[0, :2] = IGNORE
TARGETS = {"mask": MASK}


def logits_of(classes, num_classes):
    """Logits whose largest is that of the given classes."""
    return 10.0 * jax.nn.one_hot(jnp.asarray(classes), num_classes)


def test_the_loss_is_that_of_torch():
    torch = pytest.importorskip("torch")
    weights = (0.5, 1.0, 2.0, 4.0)
    for smoothing in (0.0, 0.1):
        losses = segmentation.cross_entropy(LOGITS, TARGETS, smoothing)
        weighted = segmentation.cross_entropy(LOGITS, TARGETS, 0.0, weights)
        for image in range(3):
            logits = torch.tensor(LOGITS[image]).reshape(-1, 4)
            classes = torch.tensor(MASK[image].astype(np.int64)).reshape(-1)
            options = {"ignore_index": IGNORE, "label_smoothing": smoothing}
            expected = torch.nn.functional.cross_entropy(logits, classes, **options)
            np.testing.assert_allclose(losses[image], expected, rtol=1e-5)
            total = torch.nn.functional.cross_entropy(
                logits, classes, torch.tensor(weights), ignore_index=IGNORE, reduction="sum"
            )
            known = np.count_nonzero(MASK[image] != IGNORE)
            np.testing.assert_allclose(weighted[image], total / known, rtol=1e-5)


def test_confusion_and_iou_are_those_of_scikit_learn():
    confusions = segmentation.confusion(LOGITS, TARGETS)
    predicted = LOGITS.argmax(-1)
    known = MASK != IGNORE
    for image in range(3):
        truth, guess = MASK[image][known[image]], predicted[image][known[image]]
        expected = confusion_matrix(truth, guess, labels=range(4))
        np.testing.assert_array_equal(confusions[image], expected)
        iou = jaccard_score(truth, guess, average="macro")
        np.testing.assert_allclose(segmentation.image_iou(confusions)[image], iou, rtol=1e-6)
    figures = segmentation.accuracies(np.asarray(confusions))
    truth, guess = MASK[known], predicted[known]
    assert figures["miou"] == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert figures["pixel_accuracy"] == pytest.approx(np.mean(truth == guess))
    recalls = [np.mean(guess[truth == number] == number) for number in range(4)]
    assert figures["class_accuracy"] == pytest.approx(np.mean(recalls))


def test_figures_by_hand():
    """Two of three pixels of class 0 are right, and the one of class 1; class 2 is nowhere."""
    confusion = np.array([[[2, 1, 0], [0, 1, 0], [0, 0, 0]]])
    figures = segmentation.accuracies(confusion)
    assert figures == pytest.approx(
        {"pixel_accuracy": 3 / 4, "class_accuracy": (2 / 3 + 1) / 2, "miou": (2 / 3 + 1 / 2) / 2}
    )


def test_logits_that_are_not_finite_are_wrong():
    mask = {"mask": np.zeros((1, 2, 2), np.uint8)}
    logits = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0, 1].set(jnp.nan)
    np.testing.assert_array_equal(
        segmentation.confusion(logits, mask), [[[3, 1, 0], [0, 0, 0], [0, 0, 0]]]
    )


def test_an_image_without_a_known_pixel():
    targets = {"mask": np.full((1, 4, 4), IGNORE, np.uint8)}
    values = segmentation.statistics(jnp.zeros((1, 4, 4, 3)), targets, boundary_pixels=1)
    assert not np.asarray(values["confusion"]).any()
    assert (values["image_iou"], values["boundary_f1"], values["loss"]) == (1, 1, 0)
    assert segmentation.dice(jnp.zeros((1, 4, 4, 3)), targets) == 0


def test_dice_by_hand():
    """Class 0 has 3 pixels and 2 of them are certain, class 1 has 1 and gets 2."""
    mask = {"mask": np.array([[[0, 0], [0, 1]]], np.uint8)}
    logits = logits_of([[[0, 0], [1, 1]]], 3) * 10
    expected = 1 - (2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2
    np.testing.assert_allclose(segmentation.dice(logits, mask), [expected], rtol=1e-5)


def test_boundary_f1_by_hand():
    """The truth is a step between columns 3 and 4, the prediction one column to the right."""
    truth = np.zeros((1, 6, 8), np.uint8)
    truth[:, :, 4:] = 1
    guess = np.roll(truth, 1, axis=2)
    guess[:, :, 0] = 0

    def score(tolerance, mask=truth):
        pair = jnp.asarray(guess), jnp.asarray(mask)
        return float(segmentation.boundary_f1(*pair, 2, tolerance)[0])

    # Without tolerance: the boundary of class 0 is column 3 in truth, 4 in the prediction.
    assert (score(0), score(1)) == (0.0, 1.0)
    same = segmentation.boundary_f1(jnp.asarray(truth), jnp.asarray(truth), 2, 0)
    assert float(same[0]) == 1.0
    longer = guess.copy()
    longer[0, 0, :4] = 1  # three more pixels of class 1's boundary, far from the truth
    far = segmentation.boundary_f1(jnp.asarray(longer), jnp.asarray(truth), 2, 1)
    assert 0 < float(far[0]) < 1
    unknown = truth.copy()
    unknown[:, :, 3:5] = IGNORE  # nothing is known beside the step: no boundary in the truth
    assert score(1, unknown) == 1.0  # nor in the prediction, whose step is unknown too


def test_whole_images_of_one_class():
    zeros, ones = jnp.zeros((1, 4, 4), jnp.uint8), jnp.ones((1, 4, 4), jnp.uint8)
    assert float(segmentation.boundary_f1(zeros, zeros, 2, 1)[0]) == 1.0
    half = zeros.at[0, :2].set(1)
    assert float(segmentation.boundary_f1(half, ones, 2, 1)[0]) == 0.0


def checkerboard(logits):
    patterns = segmentation.stride_pattern(jnp.asarray(logits, jnp.float32))
    return segmentation.checkerboard(np.asarray(patterns))


def test_the_amplitude_of_a_checkerboard():
    rows, columns = np.indices((16, 16))

    def amplitude(pattern):
        return checkerboard(np.stack([np.zeros((16, 16)), 0.01 * pattern], -1)[None])

    for pattern in ((-1.0) ** rows, (-1.0) ** columns, (-1.0) ** (rows + columns)):
        assert amplitude(pattern) == pytest.approx(1, abs=1e-4)
    assert amplitude((-1.0) ** (rows // 2)) < 1e-3  # half that frequency
    both = (-1.0) ** rows + (-1.0) ** (rows // 2)
    assert amplitude(both) == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert checkerboard(np.zeros((1, 5, 5, 2))) == 0.0
    assert np.isnan(checkerboard(np.full((1, 16, 16, 2), np.nan)))


def test_detail_is_no_checkerboard():
    """Stripes of a pixel, at another place in each image, do not count; what is at the same rows
    in all images does, under other detail."""
    detail = 4.0 * RNG.choice([-1.0, 1.0], (1000, 16, 1, 1)) * np.ones((1000, 16, 16, 2))
    detail[..., 0] = 0
    locked = detail + np.where(np.arange(16) % 2, 1.0, -1.0)[:, None, None] * [0.0, 0.4]
    assert checkerboard(detail) < 0.02
    odd, even = jax.nn.sigmoid(4.4) - 0.5, jax.nn.sigmoid(3.6) - 0.5
    expected = (odd - even) / 2 / np.sqrt((odd**2 + even**2) / 2)
    assert checkerboard(locked) == pytest.approx(float(expected), abs=0.02)


def test_the_constant_prediction_has_the_metrics_it_says():
    mask = np.where(RNG.random((4, 8, 8)) < 0.6, 2, RNG.integers(0, 4, (4, 8, 8))).astype(np.uint8)
    mask[1, 0] = IGNORE
    expected = segmentation.constant({"mask": mask})
    values = segmentation.statistics(
        logits_of(np.full((4, 8, 8), 2), 4), {"mask": mask}, boundary_pixels=1
    )
    figures = segmentation.figures({name: np.asarray(each) for name, each in values.items()})
    for name in ("miou", "pixel_accuracy", "class_accuracy"):
        assert expected[name] == pytest.approx(figures[name])
    assert expected["image_iou"] == pytest.approx(float(values["image_iou"].mean()))
    assert not np.asarray(values["boundary_f1"]).any()


def test_median_frequency():
    """Frequencies 1/2, 1/4 and 1/8; a class that never occurs has the weight 1."""
    weights = segmentation.median_frequency((50, 25, 10, 0), (100, 100, 80, 0))
    assert weights == pytest.approx((0.5, 1.0, 2.0, 1.0))


def test_the_configuration_chooses_the_loss():
    values = {
        "task": "segmentation",
        "loss": {"class_weights": "median_frequency", "dice_weight": 2.0},
        "data": {"name": "digit_masks"},
    }

    class Spec:
        mask_pixels, mask_present = (50, 25, 10, 5), (100, 100, 80, 80)

    task = segmentation.configured(configs.create(values), Spec)
    weights = segmentation.median_frequency(Spec.mask_pixels, Spec.mask_present)
    expected = segmentation.cross_entropy(LOGITS, TARGETS, 0.1, weights)
    expected += 2 * segmentation.dice(LOGITS, TARGETS)
    np.testing.assert_allclose(task.loss(LOGITS, TARGETS, 0.1), expected, rtol=1e-6)
