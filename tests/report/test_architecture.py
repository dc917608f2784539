"""The page of a network: what is drawn of it."""

import xml.etree.ElementTree as ElementTree

import pytest

from cnnjax import models
from cnnjax.analysis import layers
from cnnjax.config import Model
from cnnjax.report import architecture, diagram, graph, html
from cnnjax.report.canvas import ALARM


def inspected(name, size, channels=3, per_pixel=False, **values):
    shape = (size, size, channels)
    config = Model(name=name, **values)
    module = models.build(config, image_shape=shape, num_outputs=10, per_pixel=per_pixel)
    return layers.layers(module, shape), shape


@pytest.fixture(scope="module")
def googlenet():
    return inspected("googlenet", 64)


def units(row):
    return {unit.name.rpartition("/")[2]: unit for unit in row.units}


def entries(row):
    """The units with inputs from outside the row."""
    inside = {unit.name for unit in row.units}
    return [unit for unit in row.units if not set(unit.inputs) <= inside]


def test_branches_are_drawn_beside_each_other_and_meet_at_the_end(googlenet):
    network, _ = googlenet
    row = next(row for row in graph.rows(network) if row.names == ["mixed3a"])
    assert row.tracks == 4
    assert (row.last.kind, row.last.column) == ("concatenation", 2)
    placed = {name: (unit.column, unit.label) for name, unit in units(row).items()}
    assert placed["branch1_1"] == (0, "1x1")
    assert (placed["branch2_1"], placed["branch2_2"]) == ((0, "1x1"), (1, "3x3"))
    assert (placed["pool"], placed["branch4_1"]) == ((0, "3x3"), (1, "1x1"))
    for branch in ("branch2", "branch3"):
        assert units(row)[f"{branch}_1"].track == units(row)[f"{branch}_2"].track
    assert units(row)["pool"].track == units(row)["branch4_1"].track
    assert len(entries(row)) == 4


def test_a_branch_that_divides_takes_two_tracks():
    network, _ = inspected("inception_v3", 139)
    row = next(row for row in graph.rows(network) if "mixed10" in row.names)
    assert row.tracks == 6
    tracks = {name: unit.track for name, unit in units(row).items()}
    assert tracks["branch2a_1"] != tracks["branch2b_1"]
    assert tracks["branch3a_1"] != tracks["branch3b_1"]


def test_blocks_that_are_alike_share_a_row_and_add_up():
    network, _ = inspected("resnet56", 32)
    rows = graph.rows(network)
    assert [row.title for row in rows] == [
        "conv1",
        "stage1_block1 to 9",
        "stage2_block1",
        "stage2_block2 to 9",
        "stage3_block1",
        "stage3_block2 to 9",
        "head",
    ]
    assert rows[1].last.kind == "sum"
    assert [unit.name for unit in entries(rows[1])][-1] == rows[1].last.name  # the shortcut
    total = layers.totals(network)
    assert sum(row.parameters for row in rows) == total["parameters"]
    assert sum(row.multiply_adds for row in rows) == total["multiply_adds"]


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("mlp", 12, 1), ("lenet5", 32, 1), ("alexnet_grouped", 67, 3), ("vgg_small", 32, 3),
     ("inception_small", 32, 3), ("resnet50", 64, 3)],
)  # fmt: skip
def test_every_layer_is_in_the_picture(name, size, channels):
    network, shape = inspected(name, size, channels)
    rows = graph.rows(network)
    names = [unit.name for row in rows for unit in row.units]
    assert len(names) == len(set(names))
    for row in rows:
        places = [(unit.column, unit.track) for unit in row.units[:-1]]
        assert len(places) == len(set(places))
        assert all(unit.column < row.last.column for unit in row.units[:-1])
    root = ElementTree.fromstring(diagram.draw(rows, shape))
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert [title.partition(":")[0] for title in titles] == names
    assert names[-1] == "head"


def test_the_page_is_one_file_with_everything_in_it(googlenet):
    network, shape = googlenet
    page = html.write(architecture.document("<google>", network, shape, "10 outputs"))
    assert "&lt;google&gt;" in page
    assert "<google>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 1
    assert "mixed5b/branch4_1/conv" in page


def test_the_lecture_on_what_a_convolution_replaces():
    """300x300 pixels, 5x5: 26 parameters instead of 8.1e9 and, which the lecture leaves out, 90,000
    biases."""
    assert layers.dense_parameters((300, 300, 1), (300, 300, 1)) == 300**4 + 90_000
    network, _ = inspected("lenet5_modern", 300, 1)
    first = network[0]
    assert first.parameters == 6 * 26
    assert first.dense_parameters == (300**2 + 1) * 296**2 * 6  # without borders
    without_bias = inspected("resnet20", 32)[0][0]
    assert without_bias.dense_parameters == 32 * 32 * 3 * 32 * 32 * 16


def test_the_maps_of_an_encoder_lead_to_its_decoder():
    """A line from the last convolution of each level to where the decoder joins its maps, and to
    the unpooling that takes their positions."""
    network, shape = inspected("unet", 16, per_pixel=True, width=0.1, depth=3)
    rows = graph.rows(network)
    names = [row.title for row in rows]
    joined = {
        (names[source], unit)
        for row in rows
        for unit, found in row.skips.items()
        for source in found
    }
    assert joined == {("conv2_2", "decoder1"), ("conv1_2", "decoder2")}
    decoder = next(row for row in rows if row.names == ["decoder1"])
    assert [(unit.kind, unit.label) for unit in decoder.units] == [
        ("upsampling", "2x2 x2"), ("concatenation", "join"),
        ("convolution", "3x3"), ("convolution", "3x3"),
    ]  # fmt: skip
    svg = ElementTree.fromstring(diagram.draw(rows, shape))
    lines = [element for element in svg.iter() if element.get("stroke") == ALARM]
    assert len(lines) == 2
    page = html.write(architecture.document("unet", network, shape, "10 outputs for each pixel"))
    assert "10 outputs for each pixel" in page
    assert "lead from the encoder" in page
    network, _ = inspected("vgg_small", 16, per_pixel=True, width=0.2, decoder="max_unpool")
    rows = graph.rows(network)
    skips = {
        unit: [rows[i].title for i in found] for row in rows for unit, found in row.skips.items()
    }
    assert skips == {f"decoder{4 - n}/upsample": [f"conv{n}_2"] for n in (3, 2, 1)}
    assert units(rows[-2])["upsample"].label == "unpool"


def test_other_networks_have_no_lines_to_later_rows(googlenet):
    for network, _ in (googlenet, inspected("resnet20", 32)):
        assert not any(row.skips for row in graph.rows(network))
