"""The final report stays beside previews, and says where it is not of all runs."""

import csv
import json

import pytest
import workdirs

from cnnjax.errors import UserError
from cnnjax.report import ablation
from cnnjax.report.document import NOTICE
from launch import report

ARMS = {"relu": 0.9, "tanh": 0.8}
PAGES = ("report.html", "report.md")


@pytest.fixture
def study(tmp_path):
    workdirs.make(tmp_path, ARMS, 3)
    ablation.write(tmp_path, final=True)
    return tmp_path


def more_seeds(workdir):
    """Two more runs, as a later sweep leaves them."""
    for arm, accuracy in ARMS.items():
        config = json.loads((workdir / arm / "seed-0/config.json").read_text())
        workdirs.run(workdir, arm, "", 7, accuracy, config)


def without_notice(page):
    return page.partition(NOTICE[0])[0], page.partition(NOTICE[1])[2]


def test_a_preview_does_not_change_the_final_report(study):
    before = {path: path.read_bytes() for path in study.joinpath("final").rglob("*.*")}
    written = ablation.write(study)
    assert written.page == study / "report.html"
    assert written.lines == ()
    assert {path: path.read_bytes() for path in study.joinpath("final").rglob("*.*")} == before
    for folder, shown in ((study, False), (study / "final", True)):
        with (folder / "results.csv").open(newline="") as file:
            assert ("test_accuracy" in next(csv.reader(file))) == shown


def test_an_outdated_final_report_is_noted_on_both_pages_and_the_terminal(study):
    final = study / "final"
    before = {name: (final / name).read_text() for name in (*PAGES, "results.csv")}
    more_seeds(study)
    notice = "The final report is of 6 runs; there are 8 now, 2 of them not in it."
    assert notice in report.write(study, final=False)
    for name in PAGES:
        assert notice in (study / name).read_text()
        page = (final / name).read_text()
        assert notice in page
        assert without_notice(page) == without_notice(before[name])
    assert (final / "results.csv").read_text() == before["results.csv"]
    assert "looks_at_test" not in json.loads((study / "study.json").read_text())
    ablation.write(study, final=True)
    ablation.write(study)
    for name in PAGES:
        assert "The final report is of" not in (final / name).read_text()
        assert "The final report is of" not in (study / name).read_text()


def test_a_repeated_run_outdates_the_final_report(study):
    workdirs.edit(study, "relu", 0, params_digest="cd" * 32)
    (notice,) = ablation.write(study).lines
    assert notice.startswith("The final report is of 6 runs; there are 6 now, 1 of them not in it.")


def test_a_damaged_table_of_the_final_report_has_no_runs(study):
    (study / "final" / "results.csv").write_bytes(b"\x00\xff\n\x00")
    (notice,) = ablation.write(study).lines
    assert notice.startswith("The final report is of 0 runs; there are 6 now")


def test_with_final_both_are_written_and_one_look_is_counted(tmp_path):
    workdirs.make(tmp_path, ARMS, 2)
    assert f"report: {tmp_path}/final/report.html" in report.write(tmp_path, final=True)
    assert (tmp_path / "report.html").is_file()
    assert len(json.loads((tmp_path / "study.json").read_text())["looks_at_test"]) == 1


@pytest.mark.parametrize("name", ["figures", "final"])
def test_a_report_is_not_written_through_links(tmp_path, name):
    workdirs.make(tmp_path / "w", ARMS, 2)
    (tmp_path / "home").mkdir()
    (tmp_path / "w" / name).symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match=rf"w/{name}: is a link to {tmp_path}/home; nothing is"):
        report.write(tmp_path / "w", final=True)
    assert not list((tmp_path / "home").iterdir())


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no study"):
        report.write(tmp_path, final=True)
