import json

import numpy as np
import pytest

import experiments
from cnnjax.ablation.claims import block_of
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment, Tune
from cnnjax.config import RunConfig, override, resolve
from cnnjax.errors import UserError


def make(**fields):
    defaults = {
        "name": "e",
        "question": "?",
        "base": {"training.epochs": 3},
        "arms": {"a": {}, "b": {"model.activation": "tanh"}},
    }
    return Experiment(**{**defaults, **fields})


def test_crossed_lists_the_first_levels_first():
    arms = crossed({"x.a": {"p": 1, "q": 2}, "x.b": {"": 3, "r": 4}})
    assert list(arms) == ["p", "p_r", "q", "q_r"]
    assert arms["q_r"] == {"x.a": 2, "x.b": 4}


def test_blocks_have_their_own_baseline():
    networks = {"m": {"model.name": "mlp"}, "l": {"model.name": "lenet5"}}
    arms = in_blocks(networks, {"u": {}, "v": {"model.activation": "tanh"}})
    experiment = make(arms=arms)
    assert list(arms) == ["m.u", "m.v", "l.u", "l.v"]
    assert [experiment.baseline(arm) for arm in arms] == ["m.u", "m.u", "l.u", "l.u"]
    assert block_of("plain") == ""


def test_a_decimal_point_in_a_name_is_refused():
    with pytest.raises(UserError, match="'lr0' would be a block"):
        make(arms={"lr0.1": {}, "lr0.01": {"optimizer.learning_rate": 0.01}})
    assert list(make(arms={"m.keep0.5": {}}).arms) == ["m.keep0.5"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ["a", "b"]}, "arms: must be a dict"),
        ({"arms": {}}, "arms: must be a dict"),
        ({"arms": {"../up": {}}}, "arm '../up': allowed are"),
        ({"arms": {"a/b": {}}}, "arm 'a/b': allowed are"),
        ({"arms": {"a": None}}, "arm 'a': None is not a dict"),
        ({"arms": {"study": {}}}, "arm 'study': is a name in the workdir already"),
        ({"arms": {"a": {"model.name": object()}}}, "arm 'a': model.name: <object"),
        ({"seeds": []}, r"seeds: \[\] is not valid; allowed: at least one"),
        ({"seeds": ["0", "x"]}, "seeds: .* is not valid"),
        ({"seeds": [0.5]}, "seeds: .* is not valid"),
        ({"seeds": [-1, 0]}, "seeds: .* is not valid"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [2**40]}, "whole numbers from 0 to 999999999"),
        ({"seeds": [True, False]}, "seeds: .* is not valid"),
        ({"arms": {"a": {3: "relu"}}}, "arm 'a': 3 is not a dotted path"),
        ({"arms": {"a" * 201: {}}}, "allowed are up to 200 letters"),
        ({"arms": {"a": {}, "b": {}}}, "arm 'b': is the same as arm 'a'"),
        ({"arms": {"relu": {}, "ReLU": {"training.steps": 3}}}, "its folder is that of arm 'relu'"),
        ({"name": ""}, "experiment '': name: allowed are"),
        ({"name": "../up"}, "experiment '../up': name: allowed are"),
        ({"question": None}, "question: None is not text"),
        ({"lecture": 5}, "lecture: 5 is not text"),
        ({"probes": "activity"}, "probes: 'activity' is not a list of names"),
        ({"probes": ["activty"]}, "mean 'activity'"),
        ({"claims": "a beats b"}, "claims: 'a beats b' is not a list of claims"),
        ({"claims": range(10**9)}, "claims: are 1,000,000,000; allowed: at most 10,000"),
        ({"tune": "optimizer.learning_rate"}, r"tune: .* is not valid; write Tune"),
        ({"tune": Tune([0.1, 0.2])}, r"tune: .* is not valid; write Tune"),
    ],
)
def test_invalid_experiments_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        make(**fields)


def test_numbers_of_numpy_become_plain():
    experiment = make(arms={"a": {"optimizer.learning_rate": np.float32(0.5)}}, seeds=np.arange(2))
    assert experiment.seeds == (0, 1)
    assert json.dumps(experiment.arms) == '{"a": {"optimizer.learning_rate": 0.5}}'


def test_factors_are_the_paths_that_differ():
    assert make().factors == ["model.activation"]
    shared = {"a": {"model.name": "mlp"}, "b": {"model.name": "mlp", "training.epochs": 4}}
    assert make(arms=shared).factors == ["training.epochs"]


def test_the_configuration_is_resolved_and_the_arm_overrides_changes():
    config = make().config("b", {"training.epochs": 1}, {})
    assert (config.training.epochs, config.model.activation) == (1, "tanh")
    assert config.model.initializer == "he_normal"


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("c", {}, "unknown 'c'"),
        ("b", {"model.activation": "relu"}, "--set model.activation: is varied by arm 'b'"),
        ("a", {"model.activatio": "relu"}, "^model.activatio: unknown; did you mean"),
        (
            "a",
            {"model.dropot.keep_prob": 0.5},
            "^model.dropot: unknown; did you mean model.dropout?",
        ),
        ("a", {"optimizer.learning_rate": -1}, "^optimizer.learning_rate: -1 is not valid"),
        ("a", {"transfer.reset": [3]}, "^transfer.reset.0.: 3 is not valid"),
        ("a", {"optimizer.groups": [{"pattern": ""}]}, "^optimizer.groups.0..pattern: '' is not"),
        ("a", {"model.norm.statistics": "per_device"}, "^model.norm.statistics: per_device needs"),
        ("a", {"data.name": "folder:a\0"}, "^data.name: "),
    ],
)
def test_config_errors(arm, changes, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        make().config(arm, changes, {})


def test_a_mistake_in_an_arm_names_the_arm():
    arms = {"a": {"optimizer.groups": [{"pattern": "conv1", "rate": -1}]}}
    with pytest.raises(UserError, match=r"^arm 'a': optimizer.groups.0..rate: -1 is not valid"):
        make(arms=arms).config("a", {"training.epochs": 1}, {})


@pytest.mark.parametrize("name", experiments.names())
def test_built_in_experiments_have_texts_and_valid_distinct_arms(scene_classifier, name):
    loaded = experiments.load(name)
    experiment = loaded.experiment
    assert experiment.name == name
    for text in ("question", "lecture", "published", "expected", "notes"):
        assert len(getattr(experiment, text)) > 20, text
    configs = [experiment.config(arm, {}, loaded.levels) for arm in experiment.arms]
    assert len({config.model_dump_json() for config in configs}) == len(configs)


def test_an_experiment_must_be_a_python_file(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UserError, match=r"is no Python file \(\.py\)"):
        experiments.load(str(tmp_path / "study.json"))
    (tmp_path / "loop.py").symlink_to("loop.py")
    with pytest.raises(UserError, match="leads to itself"):
        experiments.load(str(tmp_path / "loop.py"))


def test_an_unknown_experiment_lists_the_names():
    with pytest.raises(UserError, match="Did you mean 'quickstart'") as error:
        experiments.load("quikstart")
    assert "initializers" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no EXPERIMENT"),
        ("x = \n", "line 1: SyntaxError"),
        ("a = 1\nb = 1 / 0\n", "line 2: ZeroDivisionError"),
        ("LEVELS = {'activation': {'relu': abs}}\n", "built-in name"),
        ("LEVELS = {'activatio': {}}\n", "Did you mean 'activation'"),
        ("LEVELS = {'activation': {'mine': 3}}\n", "not callable"),
    ],
)
def test_users_files_are_checked(tmp_path, text, message):
    experiment = (
        "from cnnjax.ablation.experiment import Experiment\n"
        "EXPERIMENT = Experiment(name='x', question='?', arms={'a': {}})\n"
    )
    path = tmp_path / "mine.py"
    path.write_text(text + (experiment if "LEVELS" in text else ""))
    with pytest.raises(UserError, match=message) as error:
        experiments.load(str(path))
    assert str(path) in str(error.value)


def test_a_fully_convolutional_network_starts_from_its_classifier(tmp_path):
    """Other networks take weights of their own name only."""
    fields = {"model.name": "vgg16", "model.hidden": (16, 8), "data.normalize": "centered"}
    stored = resolve(override(RunConfig(), fields, {}), {})
    (tmp_path / "config.json").write_text(json.dumps(stored.model_dump(mode="json")))
    weights = {"task": "segmentation", "transfer.init_from": str(tmp_path)}

    def config(base, arm):
        experiment = Experiment(name="e", question="?", base=base, arms={"arm": arm})
        return experiment.config("arm", {}, {})

    for base, arm in (
        (weights | {"model.name": "fcn8s"}, {}),
        (weights, {"model.name": "fcn8s"}),
        (weights | {"model.name": "unet"}, {"model.name": "fcn8s"}),
    ):
        found = config({**base, "data.name": "digit_masks"}, arm)
        assert (found.model.name, found.model.hidden) == ("fcn8s", (16, 8))
        assert found.data.normalize == "centered"
    with pytest.raises(UserError, match=r"of vgg16, model\.name is unet; give"):
        config({**weights, "data.name": "digit_masks"}, {"model.name": "unet"})
