"""From a file to a folder of weights, to start from or to evaluate."""

import json
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax import config as configs
from cnnjax import pretrained
from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError
from cnnjax.pretrained import hub, timm
from cnnjax.train import state, transfer
from common import program

HALF = [0.5, 0.5, 0.5]
SIZES = {"inception_v3": 299, "googlenet": 224}


def names_of(source, model, classes=10):
    """{name: shape} of the file that a source keeps of a network; each is used once."""
    layout, shapes = pretrained.SOURCES[source], {}
    modules = layout.models[model]()
    from cnnjax import models

    size = 32 if source == "pytorch_cifar" else SIZES.get(model, 64)
    fields = {"model.name": model, **layout.config(model)}
    fields |= {"data.image_size": size, "data.shorter_side": None}
    if (source, model) == ("keras", "inception_v3"):
        fields["model.auxiliary_weight"] = 0.0
    config = configs.resolve(configs.override(configs.RunConfig(), fields))
    module = models.build(config.model, image_shape=(size, size, 3), num_outputs=classes)
    import jax

    fresh = jax.eval_shape(
        lambda key: state.initial_variables(module, (size, size, 3), key), jax.random.key(0)
    )
    for path, leaf in state.flat(fresh).items():
        layer, _, entry = path.partition("/")[2].rpartition("/")
        rule = layout.rule(modules[layer], entry, tuple(leaf.shape))
        assert not shapes.keys() & set(rule.names)
        shapes |= dict(zip(rule.names, rule.shapes, strict=True))
    return shapes


@pytest.fixture(scope="module")
def arrays():
    """The arrays of a CIFAR resnet20 as PyTorch keeps them, random ones."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(0.05, 0.1, shape).astype(np.float32)
        for name, shape in names_of("pytorch_cifar", "resnet20").items()
    }


def test_names_of_the_layouts():
    cifar = names_of("pytorch_cifar", "resnet20")
    assert cifar["layer3.2.conv2.weight"] == (64, 64, 3, 3)
    assert cifar["linear.weight"] == (10, 64)
    assert not any("downsample" in name for name in cifar)
    large = names_of("torchvision", "resnet50")
    assert large["layer4.2.bn3.running_var"] == (2048,)
    assert large["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    vgg = names_of("torchvision", "vgg16_bn")
    assert vgg["features.40.weight"] == (512, 512, 3, 3)
    assert vgg["features.41.running_mean"] == (512,)
    assert names_of("timm", "vgg16")["pre_logits.fc1.weight"] == (4096, 512, 2, 2)
    assert names_of("keras", "resnet50")["conv3_block1_0_conv/0"] == (1, 1, 256, 512)


@pytest.mark.parametrize(
    ("source", "model"),
    [(source, model) for source, layout in pretrained.SOURCES.items() for model in layout.models],
)
def test_every_network_of_every_source_has_all_its_layers(source, model):
    names = names_of(source, model)  # which looks each layer up, and each array once
    known = {"alexnet": 16, "vgg16": 32, "vgg19": 38, "vgg16_bn": 32 + 4 * 13}
    known["resnet152"] = (6 if source == "keras" else 5) * 155 + 2  # Keras has biases
    assert len(names) == known.get(model, len(names))


def test_every_misfit_is_listed(arrays, tmp_path):
    wrong = dict(arrays)
    del wrong["layer1.0.bn1.running_mean"], wrong["layer2.0.conv1.weight"]
    wrong["linear.weight"] = np.ones((10, 7), np.float32)
    wrong["bn1.weight"] = np.ones(16, np.int32)
    wrong["extra"] = np.ones(3, np.float32)
    wrong["bn1.num_batches_tracked"] = np.array(7)
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError) as caught:
        pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "wrong.safetensors")
    first, *lines = str(caught.value).splitlines()
    assert "wrong.safetensors: resnet20 of pytorch_cifar: does not fit" in first
    assert lines == [
        "  different: bn1.weight is of I32, which is not a dtype of weights",
        "  different: linear.weight is [10, 7], the network has [10, 64]",
        "  missing: layer1.0.bn1.running_mean [16]",
        "  missing: layer2.0.conv1.weight [32, 16, 3, 3]",
        "  unexpected: extra [3]",
    ]


def test_a_folder_of_weights_is_evaluated_and_trained_from(arrays, tmp_path):
    """The program, and then what a user does with its folder."""
    save_file(arrays, tmp_path / "resnet20.safetensors")
    folder, study = tmp_path / "weights", tmp_path / "study"
    words = ["launch.convert", "--source=pytorch_cifar", "--model=resnet20"]
    words += [f"--file={tmp_path / 'resnet20.safetensors'}", f"--output={folder}"]
    assert "269,722 parameters, 10 classes, images of 32 pixels" in program(*words).stdout
    about = json.loads((folder / "weights.json").read_text())
    assert (about["source"], about["num_classes"]) == ("pytorch_cifar", 10)
    assert "exists already" in program(*words, check=2).stderr

    there = program("launch.evaluate", f"--init_from={folder}", "data.name=digits", check=2)
    assert "data.mean: has 3 numbers, but the images of 'digits' have 1 channel" in there.stderr
    assert "--set data.normalize=standardize" in there.stderr
    digits = ["data.name=digits", "data.normalize=standardize"]

    mine = tmp_path / "mine.py"
    mine.write_text(
        "from cnnjax.ablation.experiment import Experiment\n"
        "EXPERIMENT = Experiment(name='mine', question='?', seeds=[0],\n"
        f"    arms={{'base': {{}}, 'weights': {{'transfer.init_from': {str(folder)!r}}}}},\n"
        "    base={'model.name': 'resnet20', 'model.norm.epsilon': 0.1, 'training.steps': 2,\n"
        "          'training.batch_size': 20})\n"
    )
    words = ["launch.train", f"--experiment={mine}", "--arm=base", f"--workdir={study}"]
    words += [f"--init_from={folder}", *digits]
    wrong = program(*words, check=2).stderr
    assert "float32[3, 3, 3, 16], the network has float32[3, 3, 1, 16]" in wrong
    assert "--set 'transfer.reset=[\"conv1\"]'" in wrong
    assert not study.exists()
    program(*words, 'transfer.reset=["conv1"]', "optimizer.learning_rate=1e-9")
    made = json.loads((study / "base" / "seed-0" / "config.json").read_text())
    assert made["model"]["name"] == "resnet20"
    assert made["data"]["image_size"] == 32
    assert made["model"]["norm"]["epsilon"] == 1e-5
    assert made["transfer"] == {"init_from": str(folder), "reset": ["conv1"]}


def test_an_arm_has_the_network_and_preprocessing_of_its_weights(arrays, tmp_path):
    save_file(arrays, tmp_path / "resnet20.safetensors")
    converted = pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "resnet20.safetensors")
    transfer.write(converted.variables, converted.config, tmp_path / "weights", {})
    weights = {"transfer.init_from": str(tmp_path / "weights")}
    experiment = Experiment(
        name="e",
        question="q",
        base={"model.name": "resnet20", "model.norm.epsilon": 0.1, "data.image_size": 48},
        arms={
            "scratch": {},
            "weights": weights,
            "tanh": {**weights, "model.activation": "tanh"},
            "other": {**weights, "model.name": "resnet32"},
        },
    )
    scratch, taken, tanh = (
        experiment.config(arm, {}, {}) for arm in ("scratch", "weights", "tanh")
    )
    assert (scratch.model.norm.epsilon, scratch.data.normalize) == (0.1, "standardize")
    assert (taken.model.norm.epsilon, taken.data.normalize) == (1e-5, "given")
    assert (taken.data.mean, taken.data.image_size) == (converted.config.data.mean, 32)
    assert (tanh.model.activation, tanh.model.norm.epsilon) == ("tanh", 1e-5)
    own = experiment.config("weights", {"data.normalize": "standardize"}, {})
    assert (own.data.normalize, own.data.mean) == ("standardize", ())
    with pytest.raises(UserError, match=r"holds weights of resnet20, model\.name is resnet32"):
        experiment.config("other", {}, {})


def test_the_hint_names_layers_that_do_not_fit_and_no_others(arrays, tmp_path):
    save_file(arrays, tmp_path / "resnet20.safetensors")
    converted = pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "resnet20.safetensors")
    transfer.write(converted.variables, converted.config, tmp_path / "weights", {})
    import jax

    from cnnjax import models

    wider = configs.Model(name="resnet32")
    module = models.build(wider, image_shape=(32, 32, 3), num_outputs=10)
    fresh = jax.eval_shape(
        lambda key: state.initial_variables(module, (32, 32, 3), key), jax.random.key(0)
    )
    with pytest.raises(UserError) as caught:
        transfer.check(tmp_path / "weights", fresh)
    hint = str(caught.value).splitlines()[-1]
    assert '"stage1_block4"' in hint
    assert '"conv1"' not in hint
    assert '"head"' not in hint


def test_errors_of_wrong_files(arrays, tmp_path):
    def told(changed, *words, **how):
        save_file(changed, tmp_path / "odd.safetensors")
        with pytest.raises(UserError) as caught:
            pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "odd.safetensors", **how)
        for word in words:
            assert word in str(caught.value)
        return str(caught.value)

    without = {name: array for name, array in arrays.items() if name != "linear.bias"}
    assert "different" not in told(without, "missing: linear.bias [10]")
    told(arrays | {"bn1.running_var": -arrays["bn1.running_var"]}, "variances below 0")
    grey = {"data.mean": [0.5], "data.sd": [0.5]}
    told(arrays, "data.mean", "three channels", changes=grey)


def test_projections_of_the_widespread_layout(arrays, tmp_path):
    """Option B, as akamaster/pytorch_resnet_cifar10 calls its modules."""
    rng = np.random.default_rng(1)
    projected = dict(arrays)
    for stage, (inputs, outputs) in ((2, (16, 32)), (3, (32, 64))):
        name = f"layer{stage}.0.shortcut"
        shape = (outputs, inputs, 1, 1)
        projected[f"{name}.0.weight"] = rng.uniform(0.05, 0.1, shape).astype(np.float32)
        for entry in ("weight", "bias", "running_mean", "running_var"):
            projected[f"{name}.1.{entry}"] = rng.uniform(0.1, 0.2, outputs).astype(np.float32)
    save_file(projected, tmp_path / "b.safetensors")
    converted = pretrained.convert(
        "pytorch_cifar", "resnet20", tmp_path / "b.safetensors", changes={"model.shortcut": "B"}
    )
    kernel = converted.variables["params"]["stage2_block1"]["shortcut"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        kernel, projected["layer2.0.shortcut.0.weight"].transpose(2, 3, 1, 0)
    )


def test_reset_layers_are_named_and_the_others_are_of_the_file(arrays, tmp_path):
    save_file(arrays, tmp_path / "resnet20.safetensors")
    converted = pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "resnet20.safetensors")
    transfer.write(converted.variables, converted.config, tmp_path / "weights", {})
    import jax

    from cnnjax import models

    module = models.build(converted.config.model, image_shape=(32, 32, 3), num_outputs=3)
    fresh = state.initial_variables(module, (32, 32, 3), jax.random.key(0))
    with pytest.raises(
        UserError, match=r"head/kernel.*\[64, 10\](.|\n)*transfer.reset=\[\"head\"\]"
    ):
        transfer.start_from(tmp_path / "weights", fresh)
    started = transfer.start_from(tmp_path / "weights", fresh, reset=["head"])
    np.testing.assert_array_equal(
        started["params"]["head"]["kernel"], fresh["params"]["head"]["kernel"]
    )
    kernel = started["params"]["stage2_block1"]["conv1"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["layer2.0.conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        started["batch_stats"]["conv1"]["norm"]["var"], arrays["bn1.running_var"]
    )


def test_preprocessing_in_the_config_of_timm():
    fields = timm.preprocessing(
        "config.json",
        {
            "architecture": "resnet18",
            "pretrained_cfg": {
                "input_size": [3, 224, 224],
                "crop_pct": 0.95,
                "interpolation": "bicubic",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.2, 0.2, 0.2],
            },
        },
    )
    assert fields["data.shorter_side"] == 235
    assert fields["data.interpolation"] == "bicubic"
    assert fields["data.mean"] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"mean": HALF, "std": HALF, "crop_mode": "border"}, "crop_mode border"),
        ({"mean": "red", "std": HALF}, "is not a config of timm"),
        ({"mean": HALF, "std": HALF, "input_size": [3, "a", "a"]}, "is not a config of timm"),
        ({"mean": [0.5], "std": [0.5]}, "three numbers each"),
        ({"mean": HALF, "std": HALF, "crop_pct": -1}, "crop_pct -1"),
        ({"mean": HALF, "std": HALF, "crop_pct": 1e-320}, "is not a config of timm"),
        ({"mean": HALF, "std": HALF, "input_size": [3, 1e400, 1e400]}, "cannot be used|whole JSON"),
        ({"mean": HALF, "std": HALF, "input_size": [3, 10**400, 10**400]}, "config.json: "),
        ({"mean": HALF, "std": [0.0] * 3}, r"data\.sd\[0\]: 0.0 is not valid"),
        ({"mean": HALF, "std": HALF, "interpolation": "random"}, "data.interpolation: 'random'"),
    ],
)
def test_an_invalid_config_of_timm_is_an_error(tmp_path, beside, message):
    path = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text(json.dumps(beside | {"architecture": "resnet18"}))
    with pytest.raises(UserError, match=message) as caught:
        pretrained.convert("timm", "resnet18", path)
    assert str(caught.value).startswith(str(tmp_path / "config.json"))


def test_weights_from_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        if repository == "gone/away":
            raise ConnectionError("no network")
        return str(tmp_path / file)

    fake = types.SimpleNamespace(
        hf_hub_download=download,
        logging=types.SimpleNamespace(set_verbosity_error=lambda: None),
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    assert hub.fetch("hub:timm/resnet18.a1_in1k") == tmp_path / "model.safetensors"
    assert asked == [
        ("timm/resnet18.a1_in1k", "model.safetensors"),
        ("timm/resnet18.a1_in1k", "config.json"),
    ]
    with pytest.raises(UserError, match=r"resolve/main/model.safetensors"):
        hub.fetch("hub:gone/away")
    for name in ("hub:timm", "hub:a/b/model.bin", "hub:a/../b.safetensors"):
        with pytest.raises(UserError, match="is not valid"):
            hub.fetch(name)
