"""The notice on a final report that does not contain all runs of its study.

The final report is written when somebody looks at the test split, and is not updated with later
runs. Its runs are read from its results.csv, which needs no further look at the test split.
"""

import csv
from pathlib import Path

from cnnjax import files
from cnnjax.ablation.results import Study
from cnnjax.ablation.study import FINAL
from cnnjax.report import formatting, html, markdown
from cnnjax.report.document import NOTICE


def outdated(study: Study) -> str:
    """How the runs of the final report differ from those of the study, as a sentence; "" if they do
    not, or there is no final report."""
    rows = _rows(study.workdir / FINAL / "results.csv")
    if rows is None:
        return ""
    reported = {
        (row.get("arm"), row.get("seed"), row.get("params_digest"))
        for row in rows
        if row.get("status") in ("finished", "diverged")
    }
    current = {
        (run.arm, str(run.seed), run.result.params_digest or "") for run in study.runs if run.scored
    }
    if reported == current:
        return ""
    num_new = len(current - reported)
    new = f", {num_new} of them not in it" if num_new else ""
    return (
        f"The final report is of {formatting.count(len(reported), 'run')}; there are "
        f"{len(current)} now{new}. launch.report --final writes it anew, and counts "
        "a look at the test split."
    )


def set_notice(workdir: Path, text: str) -> None:
    """Sets the notice on the pages of a final report, or removes it with ""; the rest of the pages
    is unchanged."""
    for name, notice in (("report.html", html.notice), ("report.md", markdown.notice)):
        path = workdir / FINAL / name
        if not path.is_file():
            continue
        page = path.read_text("utf-8", errors="backslashreplace")
        before, opening, rest = page.partition(NOTICE[0])
        _, closing, after = rest.partition(NOTICE[1])
        changed = f"{before}{notice(text)}{after}"
        if opening and closing and changed != page:
            files.write_text(path, changed)


def _rows(path: Path) -> list[dict[str, str]] | None:
    """The rows of a table; empty if it is damaged, None if there is no table."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return None
    except csv.Error:
        return []
