"""What runs that take their steps together may differ in: nothing but numbers that each step
receives, and what a run starts from."""

import pytest

from cnnjax.config import RunConfig, flat
from cnnjax.train.session import lockstep_key

TRACED = {  # tests/train/test_parallel.py trains with several values of each
    "optimizer.learning_rate": 0.2,
    "optimizer.weight_decay": 0.1,
    "training.label_smoothing": 0.1,
    "model.dropout.keep_prob": 0.5,
}
SCHEDULE = {
    "schedule.name": "linear",
    "schedule.warmup_epochs": 1.0,
    "schedule.boundaries_epochs": (1.0,),
    "schedule.factor": 0.2,
    "schedule.final": 0.1,
}
AT_THE_START = {
    "model.initializer": "zeros",
    "model.initializer_sd": 0.1,
    "model.initializer_value": 0.1,
    "transfer.init_from": "somewhere",
    "transfer.reset": ("head",),
}
MAY_DIFFER = TRACED | SCHEDULE | AT_THE_START


def changed(path, value):
    """A configuration with one field changed; that it makes sense is not asked."""
    *rooms, leaf = path.split(".")
    config = RunConfig().model_copy(deep=True)
    groups = [config]
    for room in rooms:
        groups.append(getattr(groups[-1], room))
    made = groups.pop().model_copy(update={leaf: value})
    for room, group in zip(reversed(rooms), reversed(groups), strict=True):
        made = group.model_copy(update={room: made})
    return made


@pytest.mark.parametrize("path", sorted(flat(RunConfig()).keys() - MAY_DIFFER))
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_another_value_of_any_other_field_keeps_runs_apart(path):
    """A field that is new is among them, until it is shown to be one of the others."""
    assert lockstep_key(changed(path, "another value")) != lockstep_key(RunConfig())


@pytest.mark.parametrize("path", MAY_DIFFER)
def test_these_do_not(path):
    config = changed("model.dropout.keep_prob", 0.8)
    other = changed(path, MAY_DIFFER[path])
    if path != "model.dropout.keep_prob":
        other = other.model_copy(
            update={"model": other.model.model_copy(update={"dropout": config.model.dropout})}
        )
    assert lockstep_key(other) == lockstep_key(config)


def test_without_dropout_is_another_program():
    config = changed("model.dropout.keep_prob", 0.8)
    assert lockstep_key(changed("model.dropout.keep_prob", 1.0)) != lockstep_key(config)
