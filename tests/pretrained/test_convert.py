"""From a file to a folder of weights, to start from or to evaluate."""

import json
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax import config as configs
from cnnjax import pretrained
from cnnjax.errors import UserError
from cnnjax.pretrained import hub, timm
from cnnjax.train import state, transfer
from common import program

SIZES = {"inception_v3": 299, "googlenet": 224}


def names_of(source, model, classes=10):
    """{name: shape} of the file that a source keeps of a network; each is used once."""
    layout, found = pretrained.SOURCES[source], {}
    modules = layout.models[model]()
    from cnnjax import models

    size = 32 if source == "pytorch_cifar" else SIZES.get(model, 64)
    fields = {"model.name": model, **layout.config(model)}
    fields |= {"data.image_size": size, "data.shorter_side": None}
    if (source, model) == ("keras", "inception_v3"):
        fields["model.auxiliary_weight"] = 0.0
    config = configs.resolve(configs.override(configs.RunConfig(), fields))
    module = models.build(config.model, image_shape=(size, size, 3), classes=classes)
    import jax

    fresh = jax.eval_shape(
        lambda key: state.initial_variables(module, (size, size, 3), key), jax.random.key(0)
    )
    for path, leaf in state.flat(fresh).items():
        layer, _, entry = path.partition("/")[2].rpartition("/")
        rule = layout.rule(modules[layer], entry, tuple(leaf.shape))
        assert not found.keys() & set(rule.names)
        found |= dict(zip(rule.names, rule.shapes, strict=True))
    return found


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
        "  different: bn1.weight is of I32, which are no weights",
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
    assert (about["source"], about["classes"]) == ("pytorch_cifar", 10)
    assert "is there already" in program(*words, check=2).stderr

    there = program("launch.evaluate", f"--init_from={folder}", "data.name=digits", check=2)
    assert "data.mean: has 3 numbers, but the images of 'digits' have 1 channel" in there.stderr
    digits = ["data.name=digits", "data.mean=[0.5]", "data.sd=[0.25]"]

    mine = tmp_path / "mine.py"
    mine.write_text(
        "from cnnjax.ablation.experiment import Experiment\n"
        "EXPERIMENT = Experiment(name='mine', question='?', seeds=[0], arms={'base': {}},\n"
        "    base={'data.name': 'digits', 'training.steps': 2, 'training.batch_size': 20})\n"
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
    assert made["transfer"] == {"init_from": str(folder), "reset": ["conv1"]}


def test_what_is_left_fresh_is_named_and_the_rest_is_of_the_file(arrays, tmp_path):
    save_file(arrays, tmp_path / "resnet20.safetensors")
    found = pretrained.convert("pytorch_cifar", "resnet20", tmp_path / "resnet20.safetensors")
    transfer.write(found.variables, found.config, tmp_path / "weights", {})
    import jax

    from cnnjax import models

    module = models.build(found.config.model, image_shape=(32, 32, 3), classes=3)
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


def test_timm_tells_its_preprocessing_beside_the_weights():
    fields = timm.preprocessing(
        {
            "architecture": "resnet18",
            "pretrained_cfg": {
                "input_size": [3, 224, 224],
                "crop_pct": 0.95,
                "interpolation": "bicubic",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.2, 0.2, 0.2],
            },
        }
    )
    assert fields["data.shorter_side"] == 235
    assert fields["data.interpolation"] == "bicubic"
    assert fields["data.mean"] == (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match="crop_mode border"):
        timm.preprocessing({"mean": [0], "std": [1], "crop_mode": "border"})
    with pytest.raises(UserError, match="not as timm writes it"):
        timm.preprocessing({"mean": "red", "std": [1]})


def test_the_hub_by_name(tmp_path, monkeypatch):
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
