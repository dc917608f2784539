"""Published reports: no paths of the machine, and an index of all claims."""

import json

import pytest
import workdirs

from common import program

CLAIMS = [
    {"kind": "better", "sides": ["relu", "tanh"], "source": "the lecture"},
    {"kind": "equivalent", "sides": ["relu", "tanh"], "margin": 0.5, "reason": "little"},
]


def test_reports_and_an_index(tmp_path):
    study = workdirs.make(tmp_path / "secret", {"relu": 0.9, "tanh": 0.8}, 6, claims=CLAIMS)
    layers = {"conv1": {"sd": 1.0}}
    workdirs.edit(study, "relu", 0, signals={"start": layers, "end": layers})
    path = study / "study.json"
    about = json.loads(path.read_text())
    command = f"python -m launch.sweep --experiment={tmp_path}/e.py --workdir={study}"
    command += " '--data_dir=/home/me/my data' --init_from=/home/me/weights"
    about["extensions"][0]["command"] = command
    path.write_text(json.dumps(about))
    output = tmp_path / "results"
    done = program("launch.publish", f"--output={output}", str(study))
    assert f"index: {output}/README.md" in done.stdout
    index = (output / "README.md").read_text()
    assert "1 study, 2 claims: 1 supported, 1 contradicted" in index
    assert "| activations | 2 | 12 | 2 | 1 | 1 | 0 | 0 |" in index
    assert "[activations/report.md](activations/report.md)" in index
    assert "| relu beats tanh | – | supported |" in index
    report = (output / "activations" / "report.md").read_text()
    shown = "--experiment=e.py --workdir=runs/activations --data_dir=DIR --init_from=DIR2/weights"
    assert shown in report
    for file in output.rglob("*.*"):
        assert str(tmp_path) not in file.read_text()
    assert (output / "activations" / "figures" / "claims.svg").is_file()
    assert "relu,,0,end,conv1,1,1.0" in (output / "activations" / "signals.csv").read_text()
    assert len(json.loads(path.read_text())["looks_at_test"]) == 1


def test_the_index_keeps_what_was_published_before(tmp_path):
    """In its order; a study that is published again changes its own rows only."""
    output = tmp_path / "results"
    studies = {
        name: workdirs.make(
            tmp_path / name, {"relu": 0.9, "tanh": 0.8}, 4, experiment={"name": name}, claims=CLAIMS
        )
        for name in ("second", "first", "third")
    }
    program("launch.publish", f"--output={output}", *map(str, list(studies.values())[:2]))
    program("launch.publish", f"--output={output}", str(studies["third"]))
    index = (output / "README.md").read_text()
    assert "3 studies, 6 claims: 3 supported, 3 contradicted" in index
    links = [f"[{name}/report.md]({name}/report.md)" for name in studies]
    assert [index.index(link) for link in links] == sorted(index.index(link) for link in links)
    program("launch.publish", f"--output={output}", str(studies["second"]))
    assert (output / "README.md").read_text() == index


def test_a_study_that_leaves_the_index_is_named(tmp_path):
    studies = [
        workdirs.make(tmp_path / name, {"relu": 0.9}, 2, experiment={"name": name})
        for name in ("old", "new")
    ]
    output = tmp_path / "results"
    program("launch.publish", f"--output={output}", str(studies[0]))
    (output / "old" / "summary.json").unlink()
    done = program("launch.publish", f"--output={output}", str(studies[1]))
    assert "published again (an older version did): old" in done.stdout
    (output / "new" / "summary.json").write_text('{"title": 3}')
    done = program("launch.publish", f"--output={output}", str(studies[0]), check=2)
    assert f"{output}/new/summary.json: title" in done.stderr


@pytest.mark.parametrize("name", ["", "..", "../other", "/tmp", "a/b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    """Nothing that is there already is lost."""
    study = workdirs.make(tmp_path / "w", {"relu": 0.9}, 2, experiment={"name": name})
    kept = [tmp_path / "o" / "kept.txt", tmp_path / "other" / "kept.txt"]
    for path in kept:
        path.parent.mkdir()
        path.write_text("mine")
    done = program("launch.publish", f"--output={tmp_path / 'o'}", str(study), check=2)
    assert "name: allowed are up to 200 letters" in done.stderr
    assert all(path.read_text() == "mine" for path in kept)


def test_a_study_is_never_published_into_itself(tmp_path):
    study = workdirs.make(tmp_path / "activations", {"relu": 0.9}, 2)
    program("launch.report", f"--workdir={study}")
    for output in (tmp_path, study, study / "relu"):
        done = program("launch.publish", f"--output={output}", str(study), check=2)
        assert "lie in one another" in done.stderr
    assert (study / "study.json").is_file()
    assert "looks_at_test" not in json.loads((study / "study.json").read_text())


def test_a_page_of_the_users_own_is_left_alone(tmp_path):
    """As index or as report; and the workdir of another study, which has a report too."""
    study = workdirs.make(tmp_path / "w", {"relu": 0.9}, 2)
    other = workdirs.make(tmp_path / "p" / "activations", {"tanh": 0.9}, 2)
    program("launch.report", f"--workdir={other}")
    mine = [tmp_path / "o" / "README.md", tmp_path / "q" / "activations" / "report.md"]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    for output in ("o", "p", "q"):
        done = program("launch.publish", f"--output={tmp_path / output}", str(study), check=2)
        assert "is in the way" in done.stderr
    assert all(path.read_text() == "mine" for path in mine)
    assert "looks_at_test" not in json.loads((study / "study.json").read_text())


def test_only_what_was_published_is_replaced(tmp_path):
    study = workdirs.make(tmp_path / "w", {"relu": 0.9, "tanh": 0.8}, 4)
    program("launch.publish", f"--output={tmp_path / 'o'}", str(study))
    folder = tmp_path / "o" / "activations"
    (folder / "notes.txt").write_text("mine")
    (folder / "figures" / "old.svg").write_text("an old one")
    program("launch.publish", f"--output={tmp_path / 'o'}", str(study))
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "figures" / "old.svg").exists()


def test_what_is_no_published_report_is_left_alone(tmp_path):
    study = workdirs.make(tmp_path / "w", {"relu": 0.9}, 2)
    kept = tmp_path / "o" / "activations" / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    done = program("launch.publish", f"--output={tmp_path / 'o'}", str(study), check=2)
    assert "is in the way" in done.stderr
    assert kept.read_text() == "mine"
    twice = program("launch.publish", f"--output={tmp_path / 'p'}", str(study), str(study), check=2)
    assert "two of the studies are called activations" in twice.stderr
    assert "looks_at_test" not in json.loads((study / "study.json").read_text())


def test_nothing_to_publish(tmp_path):
    assert (
        "give the folders"
        in program("launch.publish", f"--output={tmp_path / 'o'}", check=2).stderr
    )
    done = program("launch.publish", f"--output={tmp_path / 'o'}", str(tmp_path), check=2)
    assert "holds no study" in done.stderr
    assert not (tmp_path / "o").exists()
