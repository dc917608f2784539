import json
import shutil
import struct

import jax
import numpy as np
import pytest
import scipy.stats

from cnnjax import result as results
from cnnjax.errors import MachineError, Stopped, UserError
from cnnjax.train import board, evaluation, folder, loop, state
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.probe import Probes
from cnnjax.train.session import Session
from common import small, train_alone


def lines(directory):
    text = (directory / "metrics.jsonl").read_text()
    timing = ("seconds", "images_per_second")
    records = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in record.items() if k not in timing} for record in records]


@pytest.fixture(scope="module")
def finished(session, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    return directory, train_alone(session, small(), 1, directory, arm="a")


def test_what_a_run_leaves(finished):
    directory, result = finished
    assert results.read(directory / "result.json") == result
    assert (result.arm, result.seed, result.status) == ("a", 1, "finished")
    assert result.steps == 30
    assert result.examples_seen == 1500
    assert result.train_images_per_second > 0
    assert len(result.params_digest) == 64
    assert result.validation.examples == 135
    assert result.test.examples == 450
    assert set(result.best_validation.values) == {"epoch", "accuracy", "loss"}
    assert result.best_validation.step in (13, 25, 30)
    assert json.loads((directory / "config.json").read_text())["model"]["activation"] == "relu"
    assert list((directory / "tensorboard").glob("events*"))


def test_chance_is_the_best_constant_prediction(finished, session):
    _, result = finished
    for split in ("validation", "test"):
        labels = session.dataset(small(), 1).splits[split].targets["label"]
        counts = np.unique(labels, return_counts=True)[1]
        assert result.chance[split].values == {
            "accuracy": pytest.approx(max(counts) / len(labels)),
            "loss": pytest.approx(scipy.stats.entropy(counts)),
        }


def test_the_metrics_are_those_of_the_plan(finished):
    directory, result = finished
    records = lines(directory)
    validations = [line for line in records if line["split"] == "validation"]
    assert [line["step"] for line in validations] == [13, 25, 30]
    trainings = [line["step"] for line in records if line["split"] == "train"]
    assert trainings == [5, 10, 13, 15, 20, 25, 30]
    assert validations[-1]["accuracy"] == result.validation.get("accuracy")
    assert max(v["accuracy"] for v in validations) == result.best_validation.get("accuracy")


def test_predictions_cover_the_split_once_and_agree_with_the_figures(finished, session):
    directory, result = finished
    for split in ("validation", "test"):
        predictions = np.load(directory / f"predictions_{split}.npz", allow_pickle=False)
        examples = session.dataset(small(), 1).splits[split]
        np.testing.assert_array_equal(predictions["ids"], examples.ids)
        np.testing.assert_array_equal(predictions["label"], examples.targets["label"])
        assert predictions["logits"].dtype == np.float32
        accuracy = (predictions["logits"].argmax(1) == predictions["label"]).mean()
        assert accuracy == pytest.approx(result.figures(split).get("accuracy"))
        shifted = predictions["logits"] - predictions["logits"].max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        loss = -log_p[np.arange(len(log_p)), predictions["label"]].mean()
        assert loss == pytest.approx(result.figures(split).get("loss"), rel=1e-4)


def test_examples_are_kept_with_their_images(finished, session):
    directory, _ = finished
    for split in ("validation", "test"):
        kept = np.load(directory / f"examples_{split}.npz", allow_pickle=False)
        part = session.dataset(small(), 1).splits[split]
        positions = [part.ids.tolist().index(number) for number in kept["ids"]]
        np.testing.assert_array_equal(kept["images"], part.images[positions])
        assert kept["kind"].tolist()[:6] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
        assert (kept["metric.accuracy"][:2] == 1).all()


@pytest.mark.parametrize("batch", [7, 64, 450])
def test_evaluation_is_exact_whatever_the_batch(finished, session, batch):
    directory, result = finished
    config = small()
    program, dataset = session.program(config), session.dataset(config, 1)
    with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
        fresh = program.initialize(state.keys(1)["params"])
        variables = checkpoints.variables(checkpoints.find("last"), fresh)
    evaluated = evaluation.evaluate(
        program.task, program.compiled, variables, session.store(config, program), dataset, "test",
        batch_size=batch,
    )  # fmt: skip
    assert evaluated.figures().get("accuracy") == result.test.get("accuracy")
    assert evaluated.figures().get("loss") == pytest.approx(result.test.get("loss"), rel=1e-5)


def test_tensorboard_reads_what_is_written_for_it(finished):
    directory, _ = finished
    (file,) = (directory / "tensorboard").iterdir()
    content, events = file.read_bytes(), []
    while content:
        size, crc = struct.unpack("<QI", content[:12])
        assert crc == board.masked_crc32c(content[:8])
        event, crc = content[12 : 12 + size], content[12 + size : 16 + size]
        assert struct.unpack("<I", crc) == (board.masked_crc32c(event),)
        events.append(board.Event.FromString(event))
        content = content[16 + size :]
    assert events[0].file_version == "brain.Event:2"
    assert events[1].step == 1
    written = [
        (event.step, {v.tag: v.simple_value for v in event.summary.value}) for event in events
    ]
    for line in lines(directory):
        tag = f"{line['split']}/accuracy"
        (value,) = [
            figures[tag] for step, figures in written if step == line["step"] if tag in figures
        ]
        assert value == pytest.approx(line["accuracy"])


@pytest.mark.parametrize("refused", ["opening", "writing"])
def test_a_full_disk_under_tensorboard_stops_nothing(
    finished, session, tmp_path, monkeypatch, refused
):
    """Forty events and more, where ten filled the queue of a thread that had died."""

    def full(*_):
        if refused == "opening":
            raise OSError(28, "No space left on device")
        return open("/dev/full", "wb")

    monkeypatch.setattr(board, "open", full, raising=False)
    messages = []
    result = train_alone(
        session, small(training__log_every_steps=1), 1, tmp_path, log=messages.append
    )
    assert messages == [
        f"{tmp_path}/tensorboard: cannot be written (No space left on device); TensorBoard will "
        "not see the rest of this run."
    ]
    assert result.params_digest == finished[1].params_digest


class Stop(Exception):
    pass


def interrupted(session, config, directory, at):
    """Runs until just after step `at`, then stops as a killed process would."""
    ticks = 0
    original = loop.Clock.tick

    def tick(self, steps):
        nonlocal ticks
        ticks += 1
        if ticks > at:
            raise Stop
        original(self, steps)

    loop.Clock.tick = tick
    try:
        with pytest.raises(Stop):
            train_alone(session, config, 1, directory)
    finally:
        loop.Clock.tick = original


@pytest.mark.parametrize("at", [3, 13, 21])
@pytest.mark.parametrize("pipeline", ["memory", "stream"])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    finished, session, tmp_path, at, pipeline
):
    directory, result = finished
    config = small(data__pipeline=pipeline)
    interrupted(session, config, tmp_path, at)
    messages = []
    again = train_alone(session, config, 1, tmp_path, log=messages.append)
    assert again.params_digest == result.params_digest
    assert lines(tmp_path) == lines(directory)
    assert again.test == result.test
    assert again.best_validation == result.best_validation
    assert messages == ([] if at < 13 else ["resumed: seed 1 at step 13 of 30"])


def stopping_at(step):
    """Asks for a stop from just before the next step on, and otherwise stops nothing."""
    asked = iter(range(10**6))
    return lambda: "SIGTERM" if next(asked) >= step else ""


@pytest.mark.parametrize("at", [0, 3, 13, 18, 30])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(finished, session, tmp_path, at):
    """After any step: also the lines of metrics.jsonl, means over steps before and after it."""
    directory, result = finished
    config = small()
    with pytest.raises(Stopped, match=f"stopped by SIGTERM at step {at} of 30"):
        train_alone(session, config, 1, tmp_path, stop=stopping_at(at))
    assert max(folder.steps(tmp_path / "checkpoints"), default=0) == at
    messages = []
    again = train_alone(session, config, 1, tmp_path, log=messages.append)
    assert messages == ([f"resumed: seed 1 at step {at} of 30"] if at else [])
    assert again.params_digest == result.params_digest
    assert again.test == result.test
    assert lines(tmp_path) == lines(directory)


def test_where_no_step_was_taken_nothing_more_is_written(session, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train_alone(session, small(), 1, tmp_path, stop=stopping_at(16))
    saved = []
    monkeypatch.setattr(Checkpoints, "save", lambda *_: saved.append(0))
    with pytest.raises(Stopped, match="at step 16 of 30"):
        train_alone(session, small(), 1, tmp_path, stop=lambda: "SIGHUP")
    assert not saved


def test_mid_epoch_checkpoints_are_resumed_from(session, tmp_path):
    config = small(
        checkpointing__every_steps=4,
        model__dropout__keep_prob=0.8,
        data__augmentation__shift_pixels=1,
        training__ema_decay=0.9,
        model__norm__kind="batch",
    )
    whole = train_alone(session, config, 1, tmp_path / "whole")
    interrupted(session, config, tmp_path / "parts", 18)
    messages = []
    parts = train_alone(session, config, 1, tmp_path / "parts", log=messages.append)
    assert messages == ["resumed: seed 1 at step 16 of 30"]
    assert parts.params_digest == whole.params_digest
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_probes_measure_the_start_and_the_end(finished, session, tmp_path):
    """Also of a resumed run, whose start cannot be measured again; and nothing else changes."""

    def share(subject, split):
        return {"share": subject.evaluate(split).figures().get("accuracy")}

    def size(subject):
        return {
            "head": {"size": float(np.abs(subject.variables["params"]["head"]["kernel"]).sum())}
        }

    probes = Probes({"share": share}, {"size": size})
    _, plain = finished
    whole = train_alone(session, small(), 1, tmp_path / "whole", probes=probes)
    assert whole.params_digest == plain.params_digest
    assert whole.measures == {
        split: {"share": whole.figures(split).get("accuracy")} for split in ("validation", "test")
    }
    start, end = (whole.signals[moment]["head"]["size"] for moment in ("start", "end"))
    assert start != end
    with pytest.raises(Stop):
        train_alone(session, small(), 1, tmp_path / "parts", probes=stopping(probes))
    again = train_alone(session, small(), 1, tmp_path / "parts", probes=probes)
    assert again.signals == whole.signals
    assert results.read(tmp_path / "parts/result.json").signals == whole.signals


def test_probes_of_a_resumed_run_that_had_none_have_no_start(session, tmp_path):
    with pytest.raises(Stop):
        train_alone(session, small(), 1, tmp_path, probes=stopping(Probes()))
    late = Probes(signals={"one": lambda subject: {"head": {"one": 1.0}}})
    result = train_alone(session, small(), 1, tmp_path, probes=late)
    assert result.signals == {"end": {"head": {"one": 1.0}}}


def stopping(probes):
    """The probes, but the end is an accident."""

    def stop(subject, split):
        raise Stop

    return Probes({"stop": stop}, probes.signals)


def test_pmap_gives_the_same_results(finished, session, tmp_path):
    _, expected = finished
    result = train_alone(session, small(training__parallel="pmap"), 1, tmp_path)
    assert result.test.get("loss") == pytest.approx(expected.test.get("loss"), rel=1e-4)
    assert result.compilations == 1
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        kernel = next(iter(state.flat(checkpoints.weights(30)["params"]).values()))
    assert kernel.ndim < 3, "no axis of devices in the checkpoint"


def test_a_run_that_diverges_keeps_its_last_finite_checkpoint(session, tmp_path):
    config = small(
        optimizer__learning_rate=1e9, schedule__name="linear", schedule__warmup_epochs=0.8,
        checkpointing__every_steps=1, model__activation="identity",
    )  # fmt: skip
    result = train_alone(session, config, 0, tmp_path)
    assert result.status == "diverged"
    assert 1 <= result.diverged_at_step <= 30
    assert result.validation is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert not (tmp_path / "predictions_test.npz").exists()
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find("last")
        assert step < result.diverged_at_step
        weights = checkpoints.weights(step)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights["params"]))


def test_lsuv_starts_from_unit_variance_on_the_first_batch(session, tmp_path):
    config = small(model__initializer="lsuv")
    program, dataset = session.program(config), session.dataset(config, 0)
    started = session.initial_state(config, program, dataset, 0)
    images = dataset.first("train", 50)[0].astype(np.float32) / 255
    flat = np.asarray(program.normalize(images)).reshape(50, -1)
    first = next(leaf for path, leaf in state.flat(started.params).items() if "kernel" in path)
    outputs = flat @ np.asarray(first)
    assert outputs.var() == pytest.approx(1, abs=0.1)


def test_another_configuration_in_the_same_folder_is_refused(finished, session):
    directory, _ = finished
    with pytest.raises(UserError, match="pick another --workdir"):
        train_alone(session, small(training__epochs=3), 1, directory)


def test_a_run_is_not_resumed_with_another_number_of_threads(finished, tmp_path):
    directory, _ = finished
    shutil.copytree(directory, tmp_path / "run")
    path = tmp_path / "run" / "runtime.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "threads": settings["threads"] + 1}))
    with pytest.raises(UserError, match=r"runtime.json: threads is"):
        train_alone(Session(), small(), 1, tmp_path / "run")


def test_a_run_is_not_resumed_on_other_data(finished, session, tmp_path):
    directory, result = finished
    assert result.runtime["data"] == session.load(small().data).fingerprint
    shutil.copytree(directory, tmp_path / "run")
    path = tmp_path / "run" / "runtime.json"
    runtime = json.loads(path.read_text())
    data = {**runtime["data"], "examples": {"train": 1300, "test": 450}}
    path.write_text(json.dumps({**runtime, "data": data}))
    with pytest.raises(UserError, match=r"other data \(examples.train 1300 -> 1347\)"):
        train_alone(session, small(), 1, tmp_path / "run")
    del runtime["data"]  # older versions have no fingerprint
    path.write_text(json.dumps(runtime))
    again = train_alone(session, small(), 1, tmp_path / "run")
    assert again.params_digest == result.params_digest


def test_starting_from_weights_is_starting_where_they_ended(finished, session):
    directory, _ = finished
    config = small(transfer__init_from=str(directory))
    program = session.program(config)
    started = session.initial_state(config, program, session.dataset(config, 5), 5)
    with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
        stored = checkpoints.weights(30)["params"]
    for path, leaf in state.flat(stored).items():
        np.testing.assert_array_equal(leaf, state.flat(started.params)[path])


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "[1"), ("runtime.json", "7"), ("runtime.json", '{"threads": 1}')],
)
def test_a_damaged_file_makes_the_run_start_anew(finished, session, tmp_path, name, content):
    """It is not known what its checkpoints are of; it ends with the same bits."""
    original, result = finished
    shutil.copytree(original, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    messages: list[str] = []
    again = train_alone(session, small(), 1, tmp_path / "run", log=messages.append)
    assert messages == [
        f"{tmp_path / 'run' / name}: is not whole; this run starts anew, its checkpoints so far "
        "are kept as checkpoints.unreadable."
    ]
    before, renamed = (
        sorted(path.iterdir())
        for path in (original / "checkpoints", tmp_path / "run/checkpoints.unreadable")
    )
    assert [step.name for step in before] == [step.name for step in renamed]
    assert again.params_digest == result.params_digest
    assert json.loads((tmp_path / "run" / name).read_text())


@pytest.mark.parametrize("name", ["config.json", "runtime.json"])
def test_a_file_that_cannot_be_read_just_now_changes_nothing(finished, session, tmp_path, name):
    """A read of /proc/self/mem from its beginning is an error of the disk."""
    original, result = finished
    shutil.copytree(original, tmp_path / "run")
    (tmp_path / "run" / name).rename(tmp_path / name)
    (tmp_path / "run" / name).symlink_to("/proc/self/mem")
    with pytest.raises(MachineError, match=rf"{name}: cannot be read just now.*Input/output error"):
        train_alone(session, small(), 1, tmp_path / "run")
    (tmp_path / name).replace(tmp_path / "run" / name)
    messages: list[str] = []
    again = train_alone(session, small(), 1, tmp_path / "run", log=messages.append)
    assert messages == ["resumed: seed 1 at step 30 of 30"]
    assert again.params_digest == result.params_digest
