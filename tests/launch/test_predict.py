"""launch.predict: what a trained network says about images."""

import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image, ImageColor

from cnnjax.data import boxes
from cnnjax.data.records import Resize
from cnnjax.data.targets import IGNORE
from cnnjax.report import palette
from cnnjax.train.session import Session
from common import program, small, train_alone
from launch import predict


@pytest.fixture(scope="module")
def session():
    return Session()


@pytest.fixture(scope="module")
def runs(session, tmp_path_factory):
    """A run of classification and one of localization, as in a study's arm `mlp`."""
    folder = tmp_path_factory.mktemp("study")
    configs = {
        "classification": small(),
        "localization": small(
            task="localization",
            data__name="digit_boxes",
            data__scenes__examples=200,
            training__steps=10,
        ),
    }
    for name, config in configs.items():
        train_alone(session, config, 0, folder / name / "seed-0")
    return folder, configs


@pytest.fixture(scope="module")
def images(runs, session, tmp_path_factory):
    """The first test images of both data sets as files; digits are of 8 x 8 pixels."""
    _, configs = runs
    folder = tmp_path_factory.mktemp("images")
    for name, config in configs.items():
        for number, image in enumerate(session.dataset(config, 0).splits["test"].images[:3]):
            Image.fromarray(image[:, :, 0]).save(folder / f"{name}{number}.png")
    return folder


def results(output):
    return json.loads((output / "predictions.json").read_text())


def test_classes_are_those_of_the_evaluation_with_their_probabilities(runs, images, tmp_path):
    run, output = runs[0] / "classification/seed-0", tmp_path / "out"
    names = [images / f"classification{number}.png" for number in (0, 2)]
    done = program(
        "launch.predict", f"--workdir={run}", f"--input={names[0]},{names[1]}",
        f"--output={output}",
    )  # fmt: skip
    stdout = f"2 images: {output / 'predictions.json'} and pictures beside it\n"
    assert done.stdout.endswith(stdout)
    written = results(output)
    assert (written["run"], written["step"], written["task"]) == (str(run), 30, "classification")
    logits = np.load(run / "predictions_test.npz")["logits"][[0, 2]].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for path, record, probabilities in zip(names, written["files"], expected, strict=True):
        assert record["file"] == str(path)
        assert (record["width"], record["height"]) == (8, 8)
        given = {each["class"]: each["probability"] for each in record["probabilities"]}
        assert list(given.values()) == sorted(given.values(), reverse=True)
        for number, probability in enumerate(probabilities):
            assert given[str(number)] == pytest.approx(probability, rel=1e-4)
        assert record["class"] == record["probabilities"][0]["class"]
        picture = Image.open(output / record["picture"])
        enlarged = np.asarray(Image.open(path).convert("RGB")).repeat(40, 0).repeat(40, 1)
        np.testing.assert_array_equal(np.asarray(picture)[:320, :320], enlarged)
    assert not list(output.glob("*_mask.png"))


def test_boxes_are_in_pixels_of_the_file(runs, images, tmp_path):
    run, output = runs[0] / "localization/seed-0", tmp_path / "out"
    large = tmp_path / "large.png"  # in colour, twice as wide and three times as high
    source = Image.open(images / "localization1.png").convert("RGB")
    source.resize((96, 144), Image.Resampling.NEAREST).save(large)
    words = (f"--input={images / 'localization1.png'},{large}", f"--output={output}")
    program("launch.predict", f"--init_from={run}", *words)
    exact, stretched = results(output)["files"]
    box = np.load(run / "predictions_test.npz")["predicted_box"][1]
    edges = ("left", "top", "right", "bottom")
    corners = [float(edge) for edge in boxes.to_corners(box)]
    inside = np.clip(corners, 0, 1)
    np.testing.assert_allclose([exact["box"][edge] for edge in edges], 48 * inside, atol=0.01)
    assert exact["class"] == exact["probabilities"][0]["class"]
    given = np.array([stretched["box"][edge] for edge in edges]) / [96, 144, 96, 144]
    np.testing.assert_allclose(given, inside, atol=0.1)  # the images differ by their resampling
    assert stretched["picture"] == "large_prediction.png"
    picture = np.asarray(Image.open(output / exact["picture"]))
    assert (picture == ImageColor.getrgb(palette.PREDICTED_BOX)).all(-1).any()


def test_an_image_that_cannot_be_read_is_left_out_and_named(runs, images, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"not an image")
    (folder / "note.txt").write_text("no image either, by its name")
    (folder / "b.JPG").write_bytes((images / "classification0.png").read_bytes())
    run, output = runs[0] / "classification/seed-0", tmp_path / "out"
    words = f"--workdir={run}", f"--input={folder}", f"--output={output}"
    done = program("launch.predict", *words, check=1)
    assert f"left out: {folder / 'a.png'}: not a readable image" in done.stdout + done.stderr
    assert done.stdout.endswith("and pictures beside it; 1 left out\n")
    written = results(output)
    assert [record["file"] for record in written["files"]] == [str(folder / "b.JPG")]
    assert [record["file"] for record in written["left_out"]] == [str(folder / "a.png")]
    program("launch.predict", *words, check=1)  # writes over its own files
    shutil.copy(output / "b_prediction.png", folder)
    assert predict._images(str(folder)) == [folder / "a.png", folder / "b.JPG"]  # not its own
    for name in ("b_prediction.png", "predictions.json"):
        path = output / name
        kept = path.read_bytes()
        path.write_bytes(b"{}" if name.endswith("json") else (folder / "b.JPG").read_bytes())
        foreign = path.read_bytes()
        done = program("launch.predict", *words, check=2)
        assert done.stderr == (
            f"error: --output: {path} exists and was not written by launch.predict; name another "
            "folder.\n"
        )
        assert path.read_bytes() == foreign
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "nowhere"}, "--input: 'nowhere': there is no such file or folder."),
        ({"input": "EMPTY"}, "holds no image (.png, .jpg,"),
        ({"input": None}, "--input: is missing."),
        ({"output": None}, "--output: is missing."),
        ({"output": "FILE"}, "is a file; name a folder."),
        ({"workdir": "STUDY"}, "is a study; name one of its runs, "),
        ({"workdir": "EMPTY"}, "holds no run (no config.json in it)."),
        ({"workdir": None}, "--workdir, --init_from: give one of the two."),
        ({"step": "first"}, "--step: 'first' is not valid; write a step, best or last."),
        ({"step": "7"}, "no checkpoint of step 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_answered_in_a_line_with_code_2(runs, images, tmp_path, changes, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "study").mkdir()
    (tmp_path / "study/study.json").write_text("{}")
    places = {
        "EMPTY": tmp_path / "empty", "STUDY": tmp_path / "study",
        "FILE": images / "classification0.png",
    }  # fmt: skip
    words = {
        "workdir": runs[0] / "classification/seed-0", "input": images, "output": tmp_path / "out",
        **changes,
    }  # fmt: skip
    given = [
        f"--{name}={places.get(value, value)}" for name, value in words.items() if value is not None
    ]
    done = program("launch.predict", *given, check=2)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out/predictions.json").exists()


OWN = """
import dataclasses
from cnnjax.ablation.experiment import Experiment
from cnnjax.tasks import classification

best = lambda outputs: {"best": outputs.max(-1)}
task = dataclasses.replace(classification.TASK, predictions=best)
LEVELS = {"task": {"own": task}}
EXPERIMENT = Experiment(name="own", question="?", base={"task": "own"}, arms={"a": {}})
"""


def test_a_task_without_anything_to_draw_says_what_can_be_drawn(images, tmp_path):
    config = small().model_dump(mode="json") | {"task": "own"}
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(OWN)
    words = [f"--workdir={tmp_path}/seed-0", f"--input={images}", f"--output={tmp_path}/out"]
    done = program("launch.predict", f"--experiment={tmp_path}/own.py", *words, check=2)
    assert done.stderr == (
        "error: task: own: its predictions (best) cannot be drawn; allowed: logits, "
        "predicted_mask, predicted_box.\n"
    )


def test_masks_are_written_at_the_size_of_the_file(tmp_path):
    """A network that sees the centre of an image of 12 x 6 pixels, 3 x 3, at half its size."""
    spec = types.SimpleNamespace(class_names=(), mask_names=("sky", "road", "car"))
    resize = Resize((3, 3), "nearest", 3)
    dataset = types.SimpleNamespace(spec=spec, loaded=types.SimpleNamespace(resize=resize))
    small_mask = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 2]], np.uint8)
    original = np.full((6, 12, 3), 100, np.uint8)
    about = predict._describe(dataset, original, {"predicted_mask": small_mask}, f"{tmp_path}/a")
    mask = np.full((6, 12), IGNORE, np.uint8)
    mask[:, 4:10] = small_mask.repeat(2, 0).repeat(2, 1)  # of 6 pixels, 2 are cut away at the left
    written = Image.open(tmp_path / "a_mask.png")
    assert written.mode == "P"
    np.testing.assert_array_equal(np.asarray(written), mask)
    assert about["classes"] == [
        {"class": "road", "value": 1, "share": pytest.approx(20 / 72)},
        {"class": "sky", "value": 0, "share": pytest.approx(12 / 72)},
        {"class": "car", "value": 2, "share": pytest.approx(4 / 72)},
        {"class": "not seen", "value": IGNORE, "share": 0.5},
    ]
    picture = np.asarray(Image.open(tmp_path / about["picture"]))
    factor = 320 // 12 + 1  # the nearest to 320 / 12
    np.testing.assert_array_equal(
        picture[: 6 * factor, : 12 * factor],
        palette.overlay(original, mask).repeat(factor, 0).repeat(factor, 1),
    )


def test_logits_that_are_not_finite_have_no_probability():
    given = predict._probabilities(np.array([0.0, np.inf]), ("a", "b"))
    assert given == [{"class": name, "probability": None} for name in ("a", "b")]


def test_names_are_distinct(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "a.jpg", "A.gif", "a-2.png", "b.png")]
    assert predict._names(paths) == ["a", "a-2", "A-3", "a-2-2", "b"]
