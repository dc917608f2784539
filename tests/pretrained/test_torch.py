"""The weights of torchvision, timm and the CIFAR residual networks, random ones, against plain
PyTorch. torch is in the extra `bench`."""

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from cnnjax import models, pretrained
from cnnjax.pretrained import layout

torch = pytest.importorskip("torch", reason="torch is not installed (extra bench)")

from peers import published_torch as peers  # noqa: E402

CLASSES = 6
CASES = {  # source, model: (image size, the network there)
    ("torchvision", "alexnet"): (224, lambda: peers.AlexNet(CLASSES)),
    ("torchvision", "vgg11"): (64, lambda: peers.Vgg(11, False, CLASSES, 2)),
    ("torchvision", "vgg16_bn"): (64, lambda: peers.Vgg(16, True, CLASSES, 2)),
    ("torchvision", "googlenet"): (97, lambda: peers.GoogLeNet(CLASSES)),
    ("torchvision", "inception_v3"): (299, lambda: peers.InceptionV3(CLASSES)),
    ("torchvision", "resnet18"): (65, lambda: peers.ResNet((2, 2, 2, 2), False, CLASSES)),
    ("torchvision", "resnet50"): (66, lambda: peers.ResNet((3, 4, 6, 3), True, CLASSES)),
    ("timm", "vgg11_bn"): (64, lambda: peers.TimmVgg(11, True, CLASSES, 2)),
    ("timm", "inception_v3"): (107, lambda: peers.InceptionV3(CLASSES, auxiliary=False)),
    ("timm", "resnet34"): (65, lambda: peers.ResNet((3, 4, 6, 3), False, CLASSES)),
    ("pytorch_cifar", "resnet20"): (32, lambda: peers.ResNet((3, 3, 3), False, CLASSES)),
}


def randomised(make):
    """A network at test time whose biases and running statistics are not what they start from."""
    torch.manual_seed(0)
    network = make()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.uniform_(-0.2, 0.2)
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


def saved(network, path, **around):
    weights = network.state_dict()
    torch.save({**around, "state_dict": weights} if around else weights, path)
    return path


def converted(source, name, path, size):
    changes = {"data.image_size": size, "data.shorter_side": None}
    return pretrained.convert(source, name, path, changes=changes)


def built(found):
    size = found.config.data.image_size
    return models.build(
        found.config.model, image_shape=(size, size, 3), num_outputs=found.num_classes
    )


def pictures(count, size):
    images = np.random.default_rng(3).normal(size=(count, size, size, 3)).astype(np.float32)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def close(ours, theirs, tolerance=1e-4):
    theirs = theirs.detach().numpy()
    assert np.abs(theirs).max() > 1e-4
    np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize(
    ("source", "name"), CASES, ids=[f"{source}-{name}" for source, name in CASES]
)
def test_the_same_logits(source, name, tmp_path):
    size, make = CASES[source, name]
    network = randomised(make)
    found = converted(source, name, saved(network, tmp_path / "there.pth"), size)
    ours, theirs = pictures(2, size)
    logits = jax.jit(lambda v, x: built(found).apply(v, x, train=False))(found.variables, ours)
    with torch.no_grad():
        expected = network(theirs)
    assert found.num_classes == CLASSES
    close(logits, expected[0] if isinstance(expected, tuple) else expected)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_auxiliary_heads_too(name, tmp_path):
    """In training, with batch norm frozen, so that all statistics are those of the file."""
    size, make = CASES["torchvision", name]
    network = randomised(make)
    found = converted("torchvision", name, saved(network, tmp_path / "there.pth"), size)
    model = found.config.model
    frozen = model.model_copy(
        update={
            "norm": model.norm.model_copy(update={"frozen": True}),
            "dropout": model.dropout.model_copy(update={"keep_prob": 1.0}),
        }
    )
    ours, theirs = pictures(2, size)
    module = models.build(frozen, image_shape=(size, size, 3), num_outputs=CLASSES)
    logits, sown = jax.jit(
        lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats", "auxiliary"])
    )(found.variables, ours)
    with torch.no_grad():
        expected, heads = network(theirs)
    close(logits, expected)
    assert len(sown["auxiliary"]["logits"]) == len(heads)
    for head, other in zip(sown["auxiliary"]["logits"], heads, strict=True):
        close(head, other)


def test_training_gives_the_same_statistics_and_gradients(tmp_path):
    network = randomised(lambda: peers.ResNet((2, 2, 2, 2), False, CLASSES))
    found = converted("torchvision", "resnet18", saved(network, tmp_path / "there.pth"), 64)
    ours, theirs = pictures(16, 64)
    labels = np.random.default_rng(4).integers(0, CLASSES, 16)
    samples = {}  # of each statistic: torch keeps the unbiased variance
    for layer_name, layer in network.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda _, given, __, name=layer_name: samples.update(
                    {name: given[0].numel() // given[0].shape[1]}
                )
            )
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    network.train()
    loss = torch.nn.functional.cross_entropy(network(theirs), torch.from_numpy(labels))
    loss.backward()

    def our_loss(params):
        variables = {**found.variables, "params": params}
        logits, updated = built(found).apply(variables, ours, train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updated["batch_stats"]

    (value, stats), grads = jax.jit(jax.value_and_grad(our_loss, has_aux=True))(
        found.variables["params"]
    )
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    after = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    after |= {name: tensor.grad.numpy() for name, tensor in network.named_parameters()}
    modules = pretrained.SOURCES["torchvision"].models["resnet18"]()
    for tree in (grads, stats):
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items():
            layer, _, entry = path.rpartition("/")
            rule = layout.torch_rule(modules[layer], entry, leaf.shape)
            theirs = after[rule.names[0]]
            if entry == "var":
                n, start = samples[modules[layer].name], before[rule.names[0]]
                theirs = start * 0.9 + (theirs - start * 0.9) * (n - 1) / n
            theirs = rule.make(theirs)
            apart = np.linalg.norm(leaf - theirs) / np.linalg.norm(theirs)
            assert apart <= 1e-3, f"{path}: {apart}"


def test_a_dict_under_state_dict_with_names_of_several_gpus(tmp_path):
    network = randomised(CASES["pytorch_cifar", "resnet20"][1])
    plain = converted("pytorch_cifar", "resnet20", saved(network, tmp_path / "plain.pth"), 32)
    wrapped = saved(torch.nn.DataParallel(network), tmp_path / "wrapped.th", epoch=7, best=91.5)
    found = converted("pytorch_cifar", "resnet20", wrapped, 32)
    jax.tree.map(np.testing.assert_array_equal, plain.variables, found.variables)
