import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from cnnjax import catalog
from cnnjax.config import ResolvedConfig, RunConfig, create, flat, override, resolve
from cnnjax.errors import UserError
from common import ROOT


def test_override_sets_dotted_paths_and_leaves_the_original_alone():
    before = RunConfig()
    after = override(before, {"model.dropout.keep_prob": 0.5, "training.batch_size": 7})
    assert (after.model.dropout.keep_prob, after.training.batch_size) == (0.5, 7)
    assert before == RunConfig()


def test_json_round_trip():
    config = resolve(override(RunConfig(), {"model.name": "vgg_small", "model.hidden": [3, 4]}))
    assert ResolvedConfig.model_validate_json(config.model_dump_json()) == config
    assert resolve(create(json.loads(config.model_dump_json()))) == config


def test_resolved_configurations_have_their_own_type_and_no_default():
    config = RunConfig()
    assert not isinstance(config, ResolvedConfig)
    assert isinstance(resolve(config), ResolvedConfig)
    with pytest.raises(ValidationError, match=r"model\.norm\.epsilon"):
        ResolvedConfig.model_validate(config.model_dump())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.dropot": 1}, "model.dropot: unknown; did you mean model.dropout?"),
        ({"model.dropot.keep_prob": 1}, "model.dropot: unknown; did you mean model.dropout?"),
        ({"modl.name": "mlp"}, "modl: unknown; did you mean model?"),
        ({"optimizer.learning_rat": 1}, "did you mean optimizer.learning_rate?"),
        ({"model.dropout.keep_prb": 1}, "did you mean model.dropout.keep_prob?"),
        ({"training.epoch": 1}, "did you mean training.epochs?"),
        ({"norm.kind": "batch"}, "norm: unknown; did you mean model.norm?"),
        ({"model.norm.kind.x": 1}, "model.norm.kind: is a field; no fields are below it."),
        ({"data.image_size": 100_000}, "allowed: a whole number, at most 4,096"),
        ({"training.steps": 10**9 + 1}, "allowed: a whole number, at most 1,000,000,000"),
        ({"evaluation.every_epochs": 1e-9}, "allowed: a number, at least 1e-06"),
        ({"data.augmentation.shift_pixels": 10**5}, "allowed: a whole number, at most 4,096"),
        ({"training.epochs": True}, "training.epochs: true is not valid; allowed: a number"),
        ({"model.name": "mlp", "model.hidden": 5}, "write a list: model.hidden=[5]"),
        ({"model.name": "mlp", "model.hidden": [True]}, "model.hidden[0]: true is not valid"),
        ({"schedule.warmup_epochs": 50}, "is more than training.epochs (10)"),
        (
            {"schedule.name": "step", "schedule.boundaries_epochs": [3, 1]},
            "[3.0, 1.0] is not valid; allowed: ascending",
        ),
        ({"zzz": 1}, "zzz: unknown. Known: task, model, data, optimizer, schedule"),
        ({"model.dropout": 1}, "set one of model.dropout.keep_prob"),
        ({"model.dropout.keep_prob": 0}, "model.dropout.keep_prob: 0 is not valid; allowed: a num"),
        ({"model.dropout.keep_prob": 1.5}, "1.5 is not valid"),
        ({"model.dropout.keep_prob": True}, "true is not valid"),
        ({"model.activation": "rellu"}, "'rellu' is not valid; allowed: default, sigmoid"),
        ({"model.activation": "rellu"}, "did you mean relu?"),
        ({"model.name": "resnet200"}, "did you mean resnet20?"),
        ({"training.parallel": "jitt"}, "allowed: jit, pmap; did you mean jit?"),
        ({"training.batch_size": 0}, "0 is not valid; allowed: a whole number, at least 1"),
        ({"training.batch_size": "x"}, "training.batch_size: 'x' is not valid"),
        ({"optimizer.learning_rate": float("nan")}, "finite"),
        ({"model.norm.statistics": "per_device"}, "per_device needs training.parallel=pmap"),
        ({"schedule.name": "step"}, "schedule.boundaries_epochs"),
        ({"transfer.reset": ["fc3"]}, "without transfer.init_from"),
        ({"transfer.reset": "head"}, 'write a list: transfer.reset=["head"]'),
        ({"data.mean": "0.5,0.4"}, "write a list: data.mean=[0.5, 0.4]"),
        ({"data.sd": 0.5}, "write a list: data.sd=[0.5]"),
        ({"data.normalize": "given", "data.mean": [124], "data.sd": [1]}, "data.mean[0]: 124 is"),
        (
            {"model.name": "resnet18", "model.zero_last_scale": True, "model.norm.kind": "none"},
            "needs a norm",
        ),
        ({"data.shorter_side": 256}, "needs a data.image_size that is no larger"),
        ({"data.shorter_side": 20, "data.image_size": 24}, "no larger (it is 24)"),
        ({"data.normalize": "given", "data.mean": [0.5]}, "needs data.mean and data.sd"),
        ({"data.mean": [0.5], "data.sd": [0.2]}, "need data.normalize=given"),
        ({"data.normalize": "deck"}, "'deck' is not valid; allowed: centered, standardize, none, "),
        ({"data.normalize": "deck"}, "; it is called centered now"),
        (
            {"optimizer.beta1": 0.5},
            "optimizer.beta1: 0.5 means nothing for momentum; it belongs to",
        ),
        ({"optimizer.name": "rmsprop", "optimizer.beta2": 0.5}, "it belongs to adam, adamw"),
        ({"optimizer.name": "adam", "optimizer.rmsprop_decay": 0.5}, "it belongs to rmsprop"),
        ({"optimizer.name": "sgd", "optimizer.epsilon": 1e-3}, "to adam, adamw, rmsprop"),
        ({"optimizer.name": "adam", "optimizer.beta1": 1}, "allowed: a number, below 1"),
        ({"optimizer.name": "adam", "optimizer.epsilon": 0}, "allowed: a number, above 0"),
        ({"optimizer.groups": "conv1"}, "'conv1' is not valid; write a list: optimizer.groups=[{"),
        ({"optimizer.groups": ["conv1"]}, "optimizer.groups[0]: 'conv1' is not valid; allowed: a"),
        ({"optimizer.groups": [{"rate": 1}]}, "optimizer.groups[0].pattern: is missing"),
        (
            {"optimizer.groups": [{"pattern": "a"}, {"pattern": "b", "rat": 1}]},
            "optimizer.groups[1].rat: unknown; did you mean optimizer.groups[1].rate?",
        ),
        (
            {"optimizer.groups": [{"pattern": "a", "rate": -1}]},
            "optimizer.groups[0].rate: -1 is not valid; allowed: a number, at least 0",
        ),
        (
            {"optimizer.groups": [{"pattern": "a", "rate": 0.1, "frozen": True}]},
            "optimizer.groups[0].rate: 0.1 means nothing for a group that is frozen; leave it out",
        ),
        (
            {"optimizer.groups": [{"pattern": "a"}], "optimizer.groups[0].rate": 2},
            "optimizer.groups[0].rate: optimizer.groups is a list and is set as a whole, such as",
        ),
        (
            {
                "model.name": "resnet20",
                "model.scan": True,
                "model.norm.kind": "batch",
                "optimizer.groups": [{"pattern": "conv1", "frozen": True}],
            },
            "optimizer.groups[0].frozen: true needs model.scan=false",
        ),
        (
            {"data.train_examples": 10, "training.batch_size": 64},
            "training.batch_size: 64 is larger than data.train_examples (10)",
        ),
    ],
)
def test_errors_name_path_value_allowed_and_nearest(changes, message):
    with pytest.raises(UserError) as error:
        override(RunConfig(), changes)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"model.dropot.keep_prob": 1}, "model.dropot"),
        ({"model.dropout": 1}, "model.dropout"),
        ({"model.activation": "rellu"}, "model.activation"),
        ({"model.name": "mlp", "model.hidden": [0]}, "model.hidden"),
        ({"transfer.reset": ["fc3"]}, "transfer.reset"),
        ({"optimizer.groups": [{"pattern": "a", "rate": -1}]}, "optimizer.groups"),
        ({"optimizer.groups": [{"pattern": "a", "rate": 2, "frozen": 1}]}, "optimizer.groups"),
        ({"data.name": "folder:\0"}, "data.name"),
    ],
)
def test_errors_have_the_path_of_the_field(changes, path):
    with pytest.raises(UserError) as error:
        override(RunConfig(), changes)
    assert error.value.path == path


def test_default_resolves_to_the_published_choice_and_a_choice_stays():
    config = resolve(override(RunConfig(), {"model.name": "lenet5"}))
    assert config.model.activation == "scaled_tanh"
    assert config.model.pooling == "subsampling"
    assert "default" not in flat(config).values()
    chosen = resolve(override(RunConfig(), {"model.name": "lenet5", "model.activation": "relu"}))
    assert chosen.model.activation == "relu"


def test_custom_levels_are_valid_names():
    levels = {"activation": {"mine": abs}}
    changes = {"model.activation": "mine"}
    assert override(RunConfig(), changes, levels).model.activation == "mine"
    with pytest.raises(UserError, match="'mine' is not valid"):
        override(RunConfig(), changes)


def test_every_published_default_is_a_valid_field_and_value():
    for name, defaults in catalog.MODELS.items():
        override(
            RunConfig(),
            {"model.name": name, **{f"model.{field}": value for field, value in defaults.items()}},
        )


def test_every_field_is_read_somewhere():
    sources = [
        path.read_text()
        for path in sorted((ROOT / "cnnjax").rglob("*.py"))
        if path.name not in ("config.py", "schema.py")
    ]
    unread = [
        path
        for path in flat(RunConfig())
        if not any(f".{path.rpartition('.')[2]}" in source for source in sources)
    ]
    assert unread == []


@pytest.mark.parametrize(
    "module", ["cnnjax.config", "cnnjax.ablation.experiment", "cnnjax.report.ablation"]
)
def test_needs_no_jax(module):
    code = f"import sys, {module}; assert 'jax' not in sys.modules, 'jax'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_experiments_need_no_jax():
    code = (
        "import sys, experiments\n"
        "for name in experiments.names(): experiments.load(name)\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_typo_is_an_error_within_a_second():
    words = [
        "-m", "launch.train", "--experiment=quickstart", "--arm=relu", "--workdir=unused",
        "--set=model.dropot=1",
    ]  # fmt: skip
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 2
        assert done.stderr == "error: model.dropot: unknown; did you mean model.dropout?\n"
    assert min(seconds) < 1.0, seconds


VALUES = [
    "x", "", None, True, 0, -1, 1, 0.5, 10**400, -(10**400), 1e308, float("nan"), [], ["x"], [None],
    [-1], [0.5], [True], {}, {"a": 1}, "1e400", [10**400], b"x", (1, 2), [[1]], 10**5000,
]  # fmt: skip


@pytest.mark.parametrize("path", flat(RunConfig()))
def test_errors_of_every_field_are_in_our_words(path):
    for value in VALUES:
        try:
            override(RunConfig(), {path: value})
        except UserError as error:
            for line in str(error).splitlines():
                assert len(line) < 900
                assert re.search("allowed: |write a list: |no(thing)? |group of|need|larger", line)
                assert not re.search("(?i)input should|unable to parse", line)


DECODER_FIELDS = ("decoder", "decoder_convolutions", "skips", *catalog.TRANSPOSED_FIELDS)


def decoder_of(changes, task="segmentation", levels=None):
    values = resolve(override(RunConfig(), {"task": task, **changes}, levels), levels).model
    return tuple(getattr(values, field) for field in DECODER_FIELDS)


def test_networks_of_per_pixel_tasks_have_a_decoder():
    assert decoder_of({}, "classification") == (None,) * 5
    assert decoder_of({}) == ("bilinear", 1, "none", None, None)
    assert decoder_of({"model.decoder": "transposed", "model.skips": "add"}) == (
        "transposed", 1, "add", 4, "initializer",
    )  # fmt: skip
    assert decoder_of({"model.name": "unet"}) == ("transposed", 2, "concatenate", 2, "initializer")
    assert decoder_of({"model.name": "fcn8s"}) == ("transposed", None, None, 4, "bilinear")
    assert decoder_of({"model.name": "naive_segmentation"}) == (None,) * 5
    assert decoder_of({"model.name": "segnet_basic", "model.decoder": "nearest"}) == (
        "nearest", 1, "none", None, None,
    )  # fmt: skip
    levels = {"task": {"mine": SimpleNamespace(per_pixel=True)}, "decoder": {"own": object()}}
    assert decoder_of({"model.decoder": "own"}, "mine", levels)[0] == "own"
    resolved = resolve(override(RunConfig(), {"task": "segmentation", "model.name": "vgg16"}))
    assert resolved.model.dropout.keep_prob == 1
    assert resolve(create(json.loads(resolved.model_dump_json()))) == resolved


@pytest.mark.parametrize("name", catalog.SEGMENTATION_MODELS)
def test_published_choices_of_segmentation_networks_leave_no_default(name):
    fields = catalog.SEGMENTATION_MODELS[name]
    config = override(RunConfig(), {"task": "segmentation", "model.name": name})
    values = flat(resolve(config))
    assert "default" not in values.values()
    transposed = fields.get("decoder") == "transposed"
    shown = {path for path in fields if transposed or path not in catalog.TRANSPOSED_FIELDS}
    assert {path: values[f"model.{path}"] for path in shown} == {p: fields[p] for p in shown}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "classification", "model.skips": "add"},
            "model.skips: means nothing for classification; it belongs to per-pixel tasks",
        ),
        (
            {"task": "classification", "model.name": "unet"},
            "model.name: unet needs a per-pixel task (task is classification)",
        ),
        ({"model.name": "mlp"}, "model.name: mlp has no feature maps, which segmentation needs"),
        ({"model.decoder": "bilinea"}, "nearest, bilinear, max_unpool, transposed"),
        (
            {"model.transposed_kernel": 3},
            "model.transposed_kernel: needs model.decoder=transposed (it is bilinear)",
        ),
        (
            {"model.name": "unet", "model.decoder": "nearest", "model.transposed_init": "bilinear"},
            "model.transposed_init: needs model.decoder=transposed (it is nearest)",
        ),
        (
            {"model.decoder": "max_unpool", "model.name": "resnet18"},
            "model.decoder: max_unpool needs poolings between blocks to undo, which resnet18 does "
            "not have everywhere; allowed: nearest, bilinear, transposed, or a model such as vgg",
        ),
        (
            {"model.decoder": "max_unpool", "model.pooling": "average"},
            "model.decoder: max_unpool needs model.pooling=max (it is average)",
        ),
        (
            {"model.name": "naive_segmentation", "model.decoder": "nearest"},
            "model.decoder: means nothing for naive_segmentation",
        ),
        ({"model.name": "fcn8s", "model.skips": "add"}, "model.skips: means nothing for fcn8s"),
        ({"model.decoder_convolutions": 3}, "model.decoder_convolutions: 3 is not valid"),
        ({"model.transposed_kernel": 5}, "model.transposed_kernel: 5 is not valid"),
    ],
)
def test_mistakes_about_decoders(changes, message):
    with pytest.raises(UserError) as caught:
        override(RunConfig(), {"task": "segmentation", **changes})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
