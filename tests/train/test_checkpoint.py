import shutil

import jax
import jax.numpy as jnp
import pytest

from cnnjax.config import Optimizer
from cnnjax.errors import UserError
from cnnjax.train import optim, state, transfer
from cnnjax.train.checkpoint import Checkpoints

MAKE = optim.optimizer(Optimizer(name="adam"))


def make(step=0, averaged=False, **params):
    params = params or {"fc": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}
    made = state.create({"params": params}, MAKE, averaged=averaged)
    return made.replace(step=jnp.int32(step))


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
        after = checkpoints.restore_latest(make(averaged=averaged), print)
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
    said = []
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore_latest(make(), said.append)
    assert int(found.step) == 2
    assert len(said) == 1
    assert "3: checkpoint cannot be read" in said[0]
    assert "going back to the one before" in said[0]


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(make(), print) is None
        with pytest.raises(UserError, match="no checkpoints there"):
            checkpoints.find("last")


def test_averages_are_what_weights_are_taken_from(tmp_path):
    both = make(1, averaged=True)
    both = both.replace(
        ema=both.ema.replace(params={"fc": {"kernel": jnp.full((3, 2), 9.0), "bias": jnp.ones(2)}})
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(both, {}, 0.5)
        checkpoints.wait()
        found = checkpoints.variables(1, {"params": both.params})
    assert float(found["params"]["fc"]["kernel"][0, 0]) == 9.0


def test_transfer_takes_weights_and_leaves_what_is_reset(tmp_path):
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
