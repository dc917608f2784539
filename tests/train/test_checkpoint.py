import errno
import json
import os
import resource
import shutil

import jax
import jax.numpy as jnp
import pytest

from cnnjax.config import Optimizer
from cnnjax.errors import MachineError, UserError
from cnnjax.train import folder, optim, state, transfer
from cnnjax.train.checkpoint import Checkpoints, Damaged

MAKE = optim.optimizer(Optimizer(name="adam"))


def make(step=0, averaged=False, **params):
    params = params or {"fc": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}
    fresh = state.create({"params": params}, MAKE, averaged=averaged)
    return fresh.replace(step=jnp.int32(step))


def save(path, accuracies, keep_last=1, **fields):
    with Checkpoints(path, keep_last=keep_last) as checkpoints:
        for step, accuracy in enumerate(accuracies, 1):
            kernel = jnp.full((3, 2), float(step))
            checkpoints.save(
                make(step, fc={"kernel": kernel, "bias": jnp.zeros(2)}, **fields), {}, accuracy
            )


def test_the_last_and_the_best_are_kept_and_found(tmp_path):
    save(tmp_path, [0.1, 0.5, 0.3, 0.2, None], keep_last=2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps == [2, 4, 5]
        assert (checkpoints.find("last"), checkpoints.find("best")) == (5, 2)
        assert checkpoints.find(4) == 4
        with pytest.raises(UserError, match=r"no checkpoint of step 3 .* there are 2, 4, 5"):
            checkpoints.find(3)


def test_of_equally_good_checkpoints_the_earliest_is_the_best(tmp_path):
    save(tmp_path, [0.1, 0.5, 0.5, 0.5, 0.2])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps == [2, 5]
        assert checkpoints.find("best") == 2


@pytest.mark.parametrize("averaged", [False, True])
def test_what_is_restored_is_what_was_saved(tmp_path, averaged):
    before = make(7, averaged=averaged)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(before, {}, 0.5)
        checkpoints.wait()
        after, _ = checkpoints.restore_latest(make(averaged=averaged), print)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, after))


def test_another_network_gives_one_error_with_every_entry(tmp_path):
    save(tmp_path, [0.5])
    other = make(
        fc={"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(2, jnp.bfloat16)}, new=jnp.ones(1)
    )
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError) as error:
        checkpoints.restore(1, other)
    text = str(error.value)
    assert "missing: params/new float32[1]" in text
    assert "different: params/fc/kernel is float32[3, 2], the network has float32[3, 4]" in text
    assert "different: params/fc/bias is float32[2], the network has bfloat16[2]" in text
    smaller = make(fc={"kernel": jnp.ones((3, 2))})
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="extra: params/fc/b"):
        checkpoints.restore(1, smaller)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "no metadata", "no figures"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    save(tmp_path, [0.1, 0.2, 0.3], keep_last=2)
    newest = tmp_path / "3" / "state"
    if damage == "emptied":
        shutil.rmtree(newest)
        newest.mkdir()
    elif damage == "no figures":
        (tmp_path / "3" / "metrics" / "metrics").write_bytes(b"")
        with pytest.raises(UserError, match="3: checkpoint cannot be read"):
            Checkpoints(tmp_path, read_only=True)
    elif damage == "no metadata":
        (newest / "_METADATA").unlink()
    else:
        for file in newest.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    messages = []
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore_latest(make(), messages.append)
    assert int(restored.step) == 2
    assert len(messages) == 1
    assert "3: checkpoint cannot be read" in messages[0]
    assert "kept as 3.unreadable; going back to the one before." in messages[0]
    assert (tmp_path / "3.unreadable" / "state").is_dir(), "nothing is deleted"
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [2]


def test_a_second_damaged_checkpoint_of_a_step_is_kept_too(tmp_path):
    (tmp_path / "1.unreadable").mkdir()
    save(tmp_path, [0.1])
    shutil.rmtree(tmp_path / "1" / "state")
    messages = []
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(make(), messages.append) is None
    assert "kept as 1.unreadable-2; starting anew." in messages[0]
    assert sorted(os.listdir(tmp_path)) == ["1.unreadable", "1.unreadable-2"]
    assert folder.steps(tmp_path) == []


def large(step):
    """A state whose kernel is stored as it is, in a file of its own."""
    kernel = jax.random.normal(jax.random.key(step), (200, 200))
    return make(step, fc={"kernel": kernel, "bias": jnp.zeros(2)})


def flip(checkpoint):
    """Flips a bit of an array, in a checkpoint that can still be read: the largest file."""
    file = max((path for path in checkpoint.rglob("*") if path.is_file()), key=os.path.getsize)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_bit_is_detected_by_every_way_to_read_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoints"
    with Checkpoints(path, keep_last=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(large(step), {}, step / 10)
    flip(path / "2")
    changed = (
        "2: checkpoint cannot be read (ValueError: its content has changed since it was saved)"
    )
    with Checkpoints(path, read_only=True) as checkpoints:
        for read in (checkpoints.weights, lambda step: checkpoints.variables(step, {"params": {}})):
            with pytest.raises(UserError) as refused:
                read(2)
            assert f"{changed}; ask for another --step: 1." in str(refused.value)
    with pytest.raises(UserError, match="its content has changed"):
        transfer.start_from(tmp_path, {"params": large(0).params})
    assert (path / "2").is_dir(), "who only reads renames nothing"
    messages = []
    with Checkpoints(path) as checkpoints:
        restored, _ = checkpoints.restore_latest(large(0), messages.append)
    assert changed in messages[0]
    assert "kept as 2.unreadable; going back to the one before." in messages[0]
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), restored, large(1)))


def test_notes_are_restored_and_are_part_of_the_checksum(tmp_path):
    notes = {"window": [{"loss": 0.1 + 0.2, "accuracy": 0.5}], "seconds": 1.5}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make(3), {}, None, notes)
        checkpoints.wait()
        assert checkpoints.restore(3, make())[1] == notes
    file = tmp_path / "3" / "notes" / "metadata"
    file.write_text(file.read_text().replace("0.5", "0.6"))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(Damaged, match="has changed"):
        checkpoints.restore(3, make())


def test_an_older_checkpoint_without_a_checksum_is_read(tmp_path):
    save(tmp_path, [0.5])
    shutil.rmtree(tmp_path / "1" / "notes")
    described = tmp_path / "1" / "_CHECKPOINT_METADATA"
    about = json.loads(described.read_text())
    del about["item_handlers"]["notes"]
    described.write_text(json.dumps(about))
    with Checkpoints(tmp_path) as checkpoints:
        restored, notes = checkpoints.restore_latest(make(), print)
        assert float(checkpoints.weights(1)["params"]["fc"]["kernel"][0, 0]) == 1.0
    assert (int(restored.step), notes) == (1, {})


def test_a_checkpoint_without_its_checksum_is_damaged(tmp_path):
    save(tmp_path, [0.6, 0.5])
    shutil.rmtree(tmp_path / "2" / "notes")
    messages = []
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore_latest(make(), messages.append)
    assert int(restored.step) == 1
    assert "its notes, with the checksum, are missing" in messages[0]


@pytest.fixture
def no_files_left():
    """A function after which this process can open no file; it can again after the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def contents(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_too_many_open_files_is_no_damage(tmp_path, no_files_left):
    """Orbax reports it as a missing key."""
    save(tmp_path, [0.1, 0.2], keep_last=2)
    before = contents(tmp_path)
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    no_files_left()
    with pytest.raises(MachineError, match=r"2: cannot be read just now \(Too many open files\)"):
        checkpoints.restore_latest(make(), print)
    with pytest.raises(MachineError, match="Too many open files"):
        checkpoints.weights(2)
    with pytest.raises(MachineError, match="Too many open files"):
        Checkpoints(tmp_path, keep_last=2)
    with pytest.raises(MachineError, match="Too many open files"):
        folder.steps(tmp_path)
    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
    checkpoints.__exit__(None, None, None)
    assert contents(tmp_path) == before


REFUSALS = {
    "an error of the disk": OSError(errno.EIO, "Input/output error"),
    "a stale handle": OSError(errno.ESTALE, "Stale file handle"),
    "too little memory": MemoryError(),
    "an error of tensorstore": ValueError("Error opening: Input/output error [os_error_code='5']"),
}


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_of_the_machine_stop_the_run_and_rename_nothing(
    tmp_path, monkeypatch, error, wrapped
):
    save(tmp_path, [0.1, 0.2], keep_last=2)
    before = contents(tmp_path)

    def refuse(*_, **__):
        if wrapped:
            raise KeyError("state") from error
        raise error

    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "restore", refuse)
        with pytest.raises(MachineError, match=r"2: cannot be read just now .* goes on from here"):
            checkpoints.restore_latest(make(), print)
    assert contents(tmp_path) == before


def test_metrics_that_cannot_be_read_just_now_are_no_damage(tmp_path):
    """A read of /proc/self/mem from its beginning is an error of the disk."""
    save(tmp_path, [0.1])
    file = tmp_path / "1" / "metrics" / "metrics"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    with pytest.raises(MachineError, match=r"metrics: cannot be read just now \(Input/output"):
        Checkpoints(tmp_path)
    assert (tmp_path / "1").is_dir()


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(make(), print) is None
        with pytest.raises(UserError, match="no checkpoints there"):
            checkpoints.find("last")


def test_weights_are_the_averages_where_there_are_any(tmp_path):
    both = make(1, averaged=True)
    both = both.replace(
        ema=both.ema.replace(params={"fc": {"kernel": jnp.full((3, 2), 9.0), "bias": jnp.ones(2)}})
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(both, {}, 0.5)
        checkpoints.wait()
        variables = checkpoints.variables(1, {"params": both.params})
    assert float(variables["params"]["fc"]["kernel"][0, 0]) == 9.0


def test_transfer_takes_weights_except_for_reset_layers(tmp_path):
    save(tmp_path / "checkpoints", [0.1])
    fresh = {"params": {"fc": {"kernel": jnp.zeros((3, 2)), "bias": jnp.ones(2)}}}
    taken = transfer.start_from(tmp_path, fresh)
    assert float(taken["params"]["fc"]["kernel"][0, 0]) == 1.0
    head = {"params": {"fc": {"kernel": jnp.zeros((3, 5)), "bias": jnp.ones(5)}}}
    kept = transfer.start_from(tmp_path, head, reset=["fc"])
    assert kept["params"]["fc"]["kernel"].shape == (3, 5)
    with pytest.raises(UserError, match="different: params/fc/kernel"):
        transfer.start_from(tmp_path, head)
    with pytest.raises(UserError, match=r"transfer.reset: unknown 'fd'. Known: fc"):
        transfer.start_from(tmp_path, head, reset=["fd"])
    with pytest.raises(UserError, match="holds no weights"):
        transfer.start_from(tmp_path / "elsewhere", head)


def test_transfer_leaves_out_layers_that_the_network_does_not_have(tmp_path):
    """As the dense layers of a classifier whose other layers are an encoder."""
    params = make().params
    classifier = {**params, "fc1": {"bias": jnp.ones(3)}, "head": {"bias": jnp.ones(4)}}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(make().replace(params=classifier), {}, None)
        checkpoints.wait()
    zeros = jax.tree.map(jnp.zeros_like, params)
    own = {"decoder1": {"bias": jnp.zeros(2)}, "head": {"bias": jnp.zeros(7)}}
    fresh = {"params": {**zeros, **own}}
    for call in (transfer.start_from, transfer.check):
        with pytest.raises(UserError) as caught:
            call(tmp_path, fresh)
        hint = str(caught.value).splitlines()[-1]
        assert hint == (
            "To keep their fresh values, and to leave out fc1: --set "
            '\'transfer.reset=["decoder1", "head", "fc1"]\''
        )
    with pytest.raises(UserError, match="To leave them out: --set"):
        transfer.check(tmp_path, fresh, reset=["decoder1", "head"])
    reset = ["decoder1", "head", "fc1"]
    transfer.check(tmp_path, fresh, reset=reset)
    started = transfer.start_from(tmp_path, fresh, reset=reset)["params"]
    assert set(started) == {*params, "decoder1", "head"}
    assert started["head"]["bias"].shape == (7,)
    assert jax.tree.map(jnp.array_equal, started["fc"], params["fc"]) == {"kernel": 1, "bias": 1}
    with pytest.raises(UserError, match=r"transfer.reset: unknown 'fc9'. Did you mean 'fc"):
        transfer.check(tmp_path, fresh, reset=["fc9"])


def test_weights_that_cannot_be_read_just_now_are_an_error_of_the_machine(tmp_path, monkeypatch):
    """A run that starts from them has not failed then."""
    save(tmp_path / "checkpoints", [0.1])
    fresh = {"params": make().params}

    def refuse(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Checkpoints, "_stored_shapes", refuse)
    for read in (transfer.start_from, transfer.check):
        with pytest.raises(MachineError, match="Stale file handle"):
            read(tmp_path, fresh)
