import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.errors import UserError
from common import sizes


@pytest.fixture(scope="module")
def digits(make_config):
    return data.load(make_config())


def test_digits(digits):
    spec = digits.spec
    assert spec.image_shape == (8, 8, 1)
    assert spec.num_classes == 10
    assert spec.class_names == tuple("0123456789")
    assert sizes(digits) == {"train": 1212, "validation": 135, "test": 450}
    assert digits.in_memory
    images = np.concatenate([part.images for part in digits.splits.values()])
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.max() == 255
    assert images.astype(int).sum() == 8_953_801
    scaled = digits.splits["train"].images / 255
    np.testing.assert_allclose(spec.mean, [scaled.mean()], rtol=1e-9)
    np.testing.assert_allclose(spec.sd, [scaled.std()], rtol=1e-9)
    counts = np.bincount(digits.splits["test"].targets["label"], minlength=10)
    assert counts.min() > 25


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    for part in digits.splits.values():
        for image, label in zip(part.images, part.targets["label"], strict=True):
            assert labels[image.tobytes()] == label


def test_one_load_serves_all_seeds(digits):
    first, second = digits.for_seed(0, 32), digits.for_seed(1, 32)
    for name, values in first.store().items():
        np.testing.assert_array_equal(values, second.store()[name])
    batch, other = next(first.train_batches(0, 1)), next(second.train_batches(0, 1))
    assert batch["indices"].dtype == np.int32
    assert set(batch["indices"]) != set(other["indices"])
    np.testing.assert_array_equal(batch["indices"], first.order.indices(0))


def test_batches_can_start_at_any_step(digits):
    run = digits.for_seed(0, 100)
    later = [batch["indices"] for batch in run.train_batches(20, 23)]
    from_the_start = [batch["indices"] for batch in run.train_batches(0, 23)]
    np.testing.assert_array_equal(later, from_the_start[20:])
    assert [*run.train_batches(5, 5)] == []


def test_subsets(make_config):
    runs = {}
    for count in (50, 200):
        runs[count] = data.load(make_config(train_examples=count)).for_seed(7, 25)
    small, large = runs[50].splits["train"], runs[200].splits["train"]
    np.testing.assert_array_equal(small.ids, large.ids[:50])
    assert len(small) == 50
    assert runs[50].spec.mean == runs[200].spec.mean, "mean and sd are those of the whole split"
    steps = runs[50].order.steps(1)
    seen = np.concatenate([batch["indices"] for batch in runs[50].train_batches(0, steps)])
    store = runs[50].store()
    assert sorted(seen) == sorted(runs[50].chosen)
    ids = runs[50].loaded.splits["train"].ids
    assert sorted(ids[seen]) == sorted(small.ids)
    np.testing.assert_array_equal(store["label"][runs[50].chosen], small.targets["label"])
    (batch,) = runs[50].eval_batches("train", 50)
    np.testing.assert_array_equal(store["images"][batch["indices"]], small.images)
    assert len(runs[50].splits["test"]) == 450


@pytest.mark.parametrize(("subset", "same"), [("fixed", True), ("per_seed", False)])
def test_subset_per_seed_or_fixed(make_config, subset, same):
    loaded = data.load(make_config(train_examples=30, subset=subset))
    ids = [set(loaded.for_seed(seed, 10).splits["train"].ids) for seed in (0, 1)]
    assert (ids[0] == ids[1]) is same


@pytest.mark.parametrize("pipeline", ["memory", "stream"])
def test_evaluation_covers_each_example_once(make_config, pipeline):
    run = data.load(make_config(pipeline=pipeline)).for_seed(0, 10)
    store, part = run.store(), run.splits["validation"]
    labels, images = [], []
    for batch in run.eval_batches("validation", 50):
        valid = batch["valid"]
        assert valid.shape == (50,)
        assert valid.dtype == np.float32
        if pipeline == "memory":
            batch = {name: store[name][batch["indices"]] for name in ("images", "label")}
        assert batch["images"].shape == (50, 8, 8, 1)
        labels += batch["label"][valid == 1].tolist()
        images += list(batch["images"][valid == 1])
    assert labels == part.targets["label"].tolist()
    np.testing.assert_array_equal(images, [image for image, _ in part.read(range(135))])


def test_first_images_are_those_of_step_0(make_config):
    for pipeline in ("memory", "stream"):
        config = make_config(pipeline=pipeline, train_examples=60, augmentation={"flip": 1.0})
        run = data.load(config).for_seed(3, 16)
        first = run.first("train", 16)[0]
        assert first.dtype == np.uint8
        expected = data.load(make_config(train_examples=60)).for_seed(3, 16)
        indices = next(expected.train_batches(0, 1))["indices"]
        np.testing.assert_array_equal(first, expected.store()["images"][indices])
        assert len(run.first("train", 100)[0]) == 100


def test_resizing(make_config):
    loaded = data.load(make_config(image_size=32))
    assert loaded.spec.image_shape == (32, 32, 1)
    small, large = data.load(make_config()).splits["test"], loaded.splits["test"]
    assert large.images.shape == (450, 32, 32, 1)
    np.testing.assert_array_equal(small.targets["label"], large.targets["label"])
    assert abs(large.images.mean() - small.images.mean()) < 3
    picture = Image.fromarray(small.images[5, :, :, 0]).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(large.images[5, :, :, 0], np.asarray(picture))


def test_auto_streams_what_does_not_fit(make_config, monkeypatch):
    monkeypatch.setattr(data.dataset, "MEMORY_BUDGET", 1000)
    run = data.load(make_config()).for_seed(0, 10)
    assert not run.in_memory
    assert run.store() == {}
    assert run.splits["train"].images is None


def test_crops_are_made_once(make_config):
    fields = {"augmentation": {"random_resized_crop": 0.5, "flip": 0.5}}
    for pipeline, expected in (("memory", 0.5), ("stream", 1.0)):
        run = data.load(make_config(pipeline=pipeline, **fields)).for_seed(0, 4)
        assert run.augmentation.random_resized_crop == expected
        assert run.augmentation.flip == 0.5


def test_a_batch_larger_than_the_training_set(make_config):
    loaded = data.load(make_config(train_examples=300))
    with pytest.raises(UserError, match=r"^training\.batch_size: 512 is larger than the 300 trai"):
        loaded.for_seed(0, 512)


def test_more_examples_than_there_are(make_config):
    with pytest.raises(UserError, match=r"data\.train_examples: 5000 is more than the 1212"):
        data.load(make_config(train_examples=5000))


def test_unknown_split(digits):
    with pytest.raises(UserError, match=r"split: unknown 'tset'.* Did you mean 'test'"):
        digits.for_seed(0, 10).eval_batches("tset", 10)


def test_importing_data_imports_neither_jax_nor_tfds():
    """Nor does a look at digits import scikit-learn, which takes a second."""
    import subprocess
    import sys

    code = (
        "import sys, cnnjax.data; from cnnjax.data import source; source.digits(); "
        "print([n for n in ('jax', 'tensorflow_datasets', 'grain', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
