"""Numbers by layer: every network in its own order, in figures and as a table."""

import csv
import io

import numpy as np
import pytest
import workdirs

from cnnjax.ablation import reading, tables
from cnnjax.report import ablation, canvas, probes

DEPTHS = {"shallow": 3, "deep": 6}


def layers(depth):
    return ["stem/conv", *(f"conv{place}/conv" for place in range(2, depth)), "head"]


def measured(names, number="gradient"):
    """Larger from layer to layer."""
    return {layer: {number: 10.0**place} for place, layer in enumerate(names)}


@pytest.fixture
def study(tmp_path):
    """Two networks of different depth in one block."""
    workdirs.make(tmp_path, dict.fromkeys(DEPTHS, 0.9), 2)
    for arm, depth in DEPTHS.items():
        for seed in range(2):
            own = measured(layers(depth))
            workdirs.edit(tmp_path, arm, seed, signals={"start": own, "end": own})
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """Drawings as matplotlib's figures."""
    monkeypatch.setattr(canvas, "draw", lambda figure: figure)
    return lambda workdir, name="gradient": probes.signal(reading.load(workdir).arms, name)


def test_networks_of_different_depth_are_drawn_by_depth_each_in_its_order(study, drawn):
    figure = drawn(study)
    for axes, depth in zip(figure.axes, DEPTHS.values(), strict=True):
        line = axes.lines[1]
        assert list(line.get_xdata()) == pytest.approx(np.linspace(0, 1, depth))
        assert list(line.get_ydata()) == [10.0**place for place in range(depth)]
    assert figure.get_supxlabel().startswith("depth")


def test_layers_that_are_the_same_are_named_on_the_axis(study, drawn):
    for seed in range(2):
        own = measured(layers(DEPTHS["deep"]))
        workdirs.edit(study, "shallow", seed, signals={"start": own, "end": own})
    figure = drawn(study)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["stem", "conv2", "conv3", "conv4", "conv5", "head"]
    assert list(figure.axes[1].lines[1].get_xdata()) == [1, 2, 3, 4, 5, 6]


def test_a_layer_named_by_two_probes_keeps_its_position(tmp_path):
    """`head` is the last endpoint of the first probe, and the last kernel of the second."""
    workdirs.make(tmp_path, {"relu": 0.9}, 1)
    own = measured(["stem", "conv2", "head"], "sd")
    for layer, numbers in measured(layers(3)).items():
        own.setdefault(layer, {}).update(numbers)
    workdirs.edit(tmp_path, "relu", 0, signals={"start": own, "end": own})
    (run,) = reading.load(tmp_path).runs
    assert run.result.layers("gradient") == ["stem/conv", "conv2/conv", "head"]
    assert run.result.layers("sd") == ["stem", "conv2", "head"]
    assert run.result.layers() == ["stem", "stem/conv", "conv2", "conv2/conv", "head"]


def test_positions_in_the_table_are_those_of_the_network(tmp_path):
    """And not those of the names."""
    workdirs.make(tmp_path, {"relu": 0.9}, 1)
    own = measured(["stem", "block2", "block10", "classifier"])
    workdirs.edit(tmp_path, "relu", 0, signals={"end": own})
    rows = csv.DictReader(io.StringIO(tables.signals_csv(reading.load(tmp_path))))
    assert [(row["position"], row["layer"]) for row in rows] == [
        ("1", "stem"), ("2", "block2"), ("3", "block10"), ("4", "classifier"),
    ]  # fmt: skip


def test_signals_are_written_to_a_table(study):
    text = ablation.write(study).page.with_suffix(".md").read_text()
    assert "The numbers are in signals.csv." in text
    with (study / "signals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["arm", "block", "seed", "moment", "layer", "position", "gradient"]
    assert len(rows) == 2 * 2 * sum(DEPTHS.values())
    deep = [row for row in rows if (row["arm"], row["seed"], row["moment"]) == ("deep", "1", "end")]
    assert [(row["layer"], row["position"], float(row["gradient"])) for row in deep] == [
        (layer, str(place + 1), 10.0**place) for place, layer in enumerate(layers(6))
    ]


def test_text_in_a_table_is_never_a_formula():
    texts = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "plain"]
    table = [{"text": text, "number": -1.5, "list": [-1]} for text in texts]
    written = tables.csv_text(["text", "number", "list", "=head"], table)
    head, *rows = csv.reader(io.StringIO(written, newline=""))
    assert head == ["text", "number", "list", "'=head"]
    assert [row[0] for row in rows] == ["'=1+1", "'+1", "'-1", "'@sum", "'\tx", "'\nx", "plain"]
    assert [row[1:] for row in rows] == [["-1.5", "[-1]", ""]] * len(texts)
