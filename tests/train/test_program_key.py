"""What runs share: for every field of the configuration, either another value is another program,
or a run honours another value all the same."""

import pytest

from cnnjax.config import ParameterGroup, RunConfig, flat, override
from cnnjax.train import program_key
from cnnjax.train.program_key import replica_key, steps_key
from cnnjax.train.session import Session
from common import small, train_alone

BASE = {
    "model.dropout.keep_prob": 0.8,
    "training.steps": 6,
    "evaluation.every_epochs": 1,
}
WEIGHTS = "the weights of another run"
STEP = {"schedule.name": "step", "schedule.boundaries_epochs": (0.2,)}
SMALL_SUBSET = {"data.train_examples": 100}

HONOURED = {
    "optimizer.learning_rate": (0.2, {}),
    "optimizer.weight_decay": (0.1, {}),
    "training.label_smoothing": (0.1, {}),
    "model.dropout.keep_prob": (0.5, {}),
    "schedule.name": ("linear", {}),
    "schedule.warmup_epochs": (0.2, {}),
    "schedule.boundaries_epochs": ((0.1,), STEP),
    "schedule.factor": (0.5, STEP),
    "schedule.final": (0.5, {}),
    "model.initializer": ("lecun_normal", {}),
    "model.initializer_sd": (0.1, {"model.initializer": "small_normal"}),
    "model.initializer_value": (0.1, {"model.initializer": "constant"}),
    "transfer.init_from": (WEIGHTS, {}),
    "transfer.reset": (("head",), {"transfer.init_from": WEIGHTS}),
    "data.train_examples": (200, SMALL_SUBSET),
    "data.subset": ("fixed", SMALL_SUBSET),
    "training.epochs": (0.2, {"training.steps": None, "training.epochs": 0.1}),
    "training.steps": (4, {}),
    "training.max_examples": (200, {}),
    "training.log_every_steps": (2, {}),
    "evaluation.every_epochs": (0.1, {}),
    "evaluation.test": (False, {}),
    "checkpointing.keep_last": (4, {"evaluation.every_epochs": 0.1}),
    "checkpointing.every_steps": (2, {}),
}
"""For each field another value, and what it needs besides to make a difference to the run."""

GROUPS = "optimizer.groups"
"""Structure, but for the rates."""

NUMBERS = program_key.TRACED | program_key.SCHEDULE
AT_THE_START = program_key.INITIALIZER | program_key.TRANSFER
MAY_DIFFER_IN_LOCKSTEP = NUMBERS | AT_THE_START
MAY_DIFFER = MAY_DIFFER_IN_LOCKSTEP | program_key.SUBSET | program_key.DURATION


def changed(path, value, config=None):
    """A configuration with one field changed, without validation."""
    *names, leaf = path.split(".")
    groups = [config or small(model__dropout__keep_prob=0.8)]
    for name in names:
        groups.append(getattr(groups[-1], name))
    config = groups.pop().model_copy(update={leaf: value})
    for name, group in zip(reversed(names), reversed(groups), strict=True):
        config = group.model_copy(update={name: config})
    return config


def test_every_field_that_programs_may_share_is_shown_to_be_honoured():
    assert HONOURED.keys() == MAY_DIFFER


@pytest.mark.parametrize("path", sorted(flat(RunConfig()).keys() - MAY_DIFFER - {GROUPS}))
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_another_value_of_any_other_field_is_another_program(path):
    """A field that is new is among them, until it is shown to be one of those above."""
    if path == "training.cpu_convolution":  # the key has what it comes to
        assert steps_key(small(), "native") != steps_key(small(), "xla")
    else:
        other = changed(path, "another value")
        assert steps_key(other, "xla") != steps_key(changed(path, "a value"), "xla")
    assert replica_key(changed(path, "another value")) != replica_key(changed(path, "a value"))


@pytest.mark.parametrize("path", sorted(MAY_DIFFER))
def test_these_fields_make_no_difference_to_the_compiled_steps(path):
    base, other = small(model__dropout__keep_prob=0.8), changed(path, HONOURED[path][0])
    assert steps_key(base, "xla") == steps_key(other, "xla")
    same = replica_key(base) == replica_key(other)
    assert same == (path in MAY_DIFFER_IN_LOCKSTEP)


OTHER_GROUP = {"pattern": "head", "rate": 0.5, "decay": False, "frozen": True}


@pytest.mark.parametrize("name", ParameterGroup.model_fields)
def test_the_fields_of_a_parameter_group_are_structure_but_for_its_rate(name):
    """That runs honour the rate with steps compiled for another one is in test_groups."""
    base = changed(GROUPS, (ParameterGroup(pattern="fc1"),))
    other = changed(
        GROUPS, (base.optimizer.groups[0].model_copy(update={name: OTHER_GROUP[name]}),)
    )
    assert (steps_key(base, "xla") == steps_key(other, "xla")) == (name == "rate")
    assert (replica_key(base) == replica_key(other)) == (name == "rate")
    assert steps_key(base, "xla") != steps_key(changed(GROUPS, ()), "xla")


def test_without_dropout_is_another_program():
    with_dropout, without = (changed("model.dropout.keep_prob", each) for each in (0.8, 1.0))
    assert replica_key(with_dropout) != replica_key(without)
    assert steps_key(with_dropout, "xla") != steps_key(without, "xla")


@pytest.fixture(scope="module")
def shared():
    """A session of which every run below has its steps."""
    return Session()


@pytest.fixture(scope="module")
def train(shared, tmp_path_factory):
    """(changes, session) -> what a run leaves that one of other steps, weights, numbers, examples
    or evaluations would not: in its result, its lines and its checkpoints."""
    weights = tmp_path_factory.mktemp("weights")
    train_alone(shared, override(small(), BASE), 7, weights)

    def run(changes, session=shared):
        overrides = {
            path: str(weights) if value == WEIGHTS else value for path, value in changes.items()
        }
        directory = tmp_path_factory.mktemp("run")
        result = train_alone(session, override(small(), BASE | overrides), 1, directory)
        lines = len((directory / "metrics.jsonl").read_text().splitlines())
        checkpoints = sorted(path.name for path in (directory / "checkpoints").iterdir())
        return result.params_digest, result.test, lines, checkpoints

    return run


@pytest.mark.parametrize("path", sorted(MAY_DIFFER))
def test_a_run_honours_them_with_steps_compiled_for_other_values(path, shared, train):
    value, needed = HONOURED[path]
    assert train({**needed, path: value}) != train(needed)
    assert shared.program(override(small(), BASE)).compiled.traces == 1


def test_the_results_are_those_of_steps_compiled_for_the_run(train):
    """All numbers and durations changed at once."""
    changes = {
        path: value
        for path, (value, needed) in HONOURED.items()
        if not needed and path not in ("schedule.name", "training.max_examples")
    }
    changes |= {"data.subset": "fixed", **STEP, "training.steps": 12}
    assert train(changes) == train(changes, Session())
