import subprocess
import sys
import time
from pathlib import Path

import absl.flags
import numpy as np
import pytest

from cnnjax import data
from cnnjax.data import stream
from cnnjax.errors import UserError


def collect(run, start, stop):
    batches = list(run.train_batches(start, stop))
    store = run.store()
    if run.in_memory:
        batches = [{name: store[name][b["indices"]] for name in store} for b in batches]
    return [np.stack([batch[name] for batch in batches]) for name in ("images", "label")]


@pytest.mark.parametrize("fields", [{}, {"train_examples": 100}, {"image_size": 16}])
def test_streaming_gives_the_same_pixels_as_memory(make_config, picture_folder, fields):
    name = "digits" if "train_examples" in fields else picture_folder
    runs = [
        data.load(make_config(name=name, pipeline=pipeline, **fields)).for_seed(2, 8)
        for pipeline in ("memory", "stream")
    ]
    for memory, streamed in zip(*(collect(run, 3, 7) for run in runs), strict=True):
        np.testing.assert_array_equal(memory, streamed)
        assert memory.dtype == streamed.dtype
    assert runs[0].spec == runs[1].spec


def test_crops_do_not_depend_on_where_a_run_starts(make_config, picture_folder):
    config = make_config(
        name=picture_folder, pipeline="stream", augmentation={"random_resized_crop": 0.3}
    )
    run = data.load(config).for_seed(0, 4)
    images, labels = collect(run, 0, 6)
    late_images, late_labels = collect(run, 4, 6)
    np.testing.assert_array_equal(images[4:], late_images)
    np.testing.assert_array_equal(labels[4:], late_labels)
    assert images.shape == (6, 4, 10, 12, 3)
    whole = data.load(make_config(name=picture_folder, pipeline="stream")).for_seed(0, 4)
    plain, plain_labels = collect(whole, 0, 6)
    np.testing.assert_array_equal(labels, plain_labels)
    assert not np.array_equal(images, plain)
    other = collect(data.load(config).for_seed(1, 4), 0, 6)[0]
    assert not np.array_equal(images, other)


def test_crop_boxes_lie_inside_and_keep_enough():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        left, top, right, bottom = stream.crop_box(40, 60, 0.2, rng.random(40))
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        shares.append((right - left) * (bottom - top) / 2400)
        assert 0.74 < (right - left) / (bottom - top) < 1.51
    assert min(shares) >= 0.2
    assert min(shares) < 0.3
    assert 0.45 < np.mean(shares) < 0.65
    assert stream.crop_box(2, 100, 0.9, rng.random(40)) == (0, 0, 100, 2)


def test_worker_processes_give_the_same_batches(make_config, picture_folder):
    if not absl.flags.FLAGS.is_parsed():
        absl.flags.FLAGS.mark_as_parsed()
    fields = {"name": picture_folder, "pipeline": "stream"}
    threads, processes = (
        data.load(make_config(stream_workers=workers, **fields)).for_seed(0, 4)
        for workers in (0, 2)
    )
    for expected, result in zip(collect(threads, 1, 6), collect(processes, 1, 6), strict=True):
        np.testing.assert_array_equal(expected, result)


def test_workers_need_parsed_flags(make_config, picture_folder, monkeypatch):
    monkeypatch.setattr(absl.flags, "FLAGS", absl.flags.FlagValues())
    config = make_config(name=picture_folder, pipeline="stream", stream_workers=2)
    run = data.load(config).for_seed(0, 4)
    with pytest.raises(UserError, match=r"data\.stream_workers: 2 needs absl's flags parsed"):
        next(run.train_batches(0, 1))


def test_a_stream_can_be_abandoned(make_config, picture_folder):
    run = data.load(make_config(name=picture_folder, pipeline="stream")).for_seed(0, 4)
    batches = run.train_batches(0, 1000)
    assert next(batches)["label"].dtype == np.int32
    del batches
    assert collect(run, 0, 1)[0].shape == (1, 4, 10, 12, 3)


READER = """
import multiprocessing, os, signal, sys, time
import absl.flags
from cnnjax import data
from cnnjax.config import Data

if __name__ == "__main__":
    absl.flags.FLAGS.mark_as_parsed()
    config = Data(name=sys.argv[1], pipeline="stream", stream_workers=2)
    batches = data.load(config).for_seed(0, 4).train_batches(0, 1000)
    next(batches), next(batches)  # one of each worker
    workers = [child.pid for child in multiprocessing.active_children()]
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    for _ in range(20):
        next(batches)
    print(*workers, flush=True)
    time.sleep(60)
"""


def test_workers_end_with_their_parent_and_not_before(picture_folder, tmp_path):
    """They ignore a signal to the whole job, and end when their parent process is killed."""
    (tmp_path / "reader.py").write_text(READER)
    words = [sys.executable, tmp_path / "reader.py", picture_folder]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        workers = [int(number) for number in reader.stdout.readline().split()]
        assert len(workers) == 2
        assert all(alive(worker) for worker in workers)
        reader.kill()
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def alive(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
