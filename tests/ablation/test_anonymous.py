"""A study to be published: no path of the machine, and nothing else lost."""

import json
import shlex

import pytest
import workdirs

from cnnjax.ablation import anonymous, reading, verdicts
from cnnjax.report import ablation

DATA = "/home/me/my data"
LEVELS = [f"folder:{DATA}/flowers", "folder:/srv/flowers"]


@pytest.fixture
def study(tmp_path):
    """A study of two folders of images, in a workdir with an apostrophe and a space."""
    workdir = workdirs.make(
        tmp_path / "o'brien and son" / "w",
        {"mine": 0.9, "yours": 0.8},
        4,
        factors=("data.name",),
        overrides={
            "mine": {"data.name": LEVELS[0]},
            "yours": {"data.name": LEVELS[1], "transfer.init_from": "/home/me/weights/r20"},
        },
        experiment={"question": f"What does data.name ({', '.join(LEVELS)}) do?"},
        claims=[{"kind": "better", "sides": [{"data.name": level} for level in LEVELS]}],
    )
    error = f"OSError: \"{workdir}/mine/x\", '{DATA}/flowers/a b.png' (/usr/lib/py/x.py:3), 9 img/s"
    workdirs.edit(workdir, "mine", 0, status="failed", error=error)
    path = workdir / "study.json"
    about = json.loads(path.read_text())
    words = [
        "--experiment=/home/me/own/e.py",
        f"--workdir={workdir}",
        "--data_dir",
        DATA,
        "--init_from=/home/me/weights/r20",
        "--flagfile=/home/me/flags",
        "--set",
        f"data.name={LEVELS[0]}",
        '--set=transfer.init_from="/home/me/weights/r20"',
        '--set=transfer.reset=["head"]',
        f"--vary=data.name={','.join(LEVELS)}",
        "training.epochs=5",
    ]
    about["extensions"][0]["command"] = shlex.join(["python", "-m", "launch.sweep", *words])
    about["set"] = [f"data.name={LEVELS[0]}", "training.epochs=5"]
    path.write_text(json.dumps(about))
    return workdir


def test_commands_stay_commands(study):
    shown = anonymous.anonymize(reading.load(study)).about["extensions"][0]["command"]
    assert shlex.split(shown) == [
        "python", "-m", "launch.sweep", "--experiment=e.py", "--workdir=runs/activations",
        "--data_dir", "DIR", "--init_from=DIR3/r20", "--flagfile=DIR4/flags",
        "--set", "data.name=folder:DIR/flowers", '--set=transfer.init_from="DIR3/r20"',
        '--set=transfer.reset=["head"]', "--vary=data.name=folder:DIR/flowers,folder:DIR2/flowers",
        "training.epochs=5",
    ]  # fmt: skip


def test_relative_paths_are_replaced_too(study):
    path = study / "study.json"
    about = json.loads(path.read_text())
    words = ["--flagfile=../ann/flags", "--init_from=../ann/r20", "--vary=data.name=folder:ann/x,y"]
    about["extensions"][0]["command"] = shlex.join(words)
    about["arms"]["yours"]["config"]["transfer"] = {"init_from": "../ann/r20"}
    path.write_text(json.dumps(about))
    shown = anonymous.anonymize(reading.load(study)).about
    assert "ann" not in shown["extensions"][0]["command"]
    assert "ann" not in json.dumps(shown["arms"]["yours"]["config"])


def test_two_folders_get_two_names_and_claims_keep_their_arms(study):
    given, shown = reading.load(study), anonymous.anonymize(reading.load(study))
    assert [arm.overrides["data.name"] for arm in shown.arms] == [
        "folder:DIR/flowers",
        "folder:DIR2/flowers",
    ]
    before, after = verdicts.findings(given), verdicts.findings(shown)
    assert [finding.corrected for finding in after] == [finding.corrected for finding in before]
    assert len(after) == 1


def test_no_file_of_a_report_has_a_path(study, tmp_path):
    shown = anonymous.anonymize(reading.load(study))
    ablation.render(shown, verdicts.findings(shown), tmp_path / "out")
    texts = {path: path.read_text() for path in (tmp_path / "out").rglob("*.[!p]*")}
    assert len(texts) > 5
    for text in texts.values():
        for part in ("/home", "/srv", "/usr", "my data", "weights/", "brien", str(tmp_path)):
            assert part not in text
    (error,) = [run.error for arm in shown.arms for run in arm.runs if run.error]
    assert error == (
        "OSError: \"runs/activations/mine/x\", 'DIR/flowers/a b.png' (DIR5/x.py:3), 9 img/s"
    )


@pytest.mark.parametrize(
    "text", ["see https://example.org/a/b", "images/s, and/or 1 / 2", "ReLU's 'sd' is 1/2", "DIR/x"]
)
def test_text_without_paths_is_unchanged(study, text):
    path = study / "study.json"
    about = json.loads(path.read_text())
    about["experiment"]["notes"] = text
    path.write_text(json.dumps(about))
    assert anonymous.anonymize(reading.load(study)).experiment["notes"] == text
