"""The final report of a study, in a folder of its own: whether it is of all runs, and saying so.

It is written when somebody looks at the test split, and stays as it was then. What runs it is of
is read off its own results.csv, so that nothing here needs another look.
"""

import csv
from pathlib import Path

from cnnjax import files
from cnnjax.ablation.results import Study
from cnnjax.ablation.study import FINAL
from cnnjax.report import html, markdown, words
from cnnjax.report.document import NOTICE


def behind(study: Study) -> str:
    """In what the final report of a study differs from the runs that there are now, in words; ""
    where it does not, or there is none."""
    rows = _rows(study.workdir / FINAL / "results.csv")
    if rows is None:
        return ""
    reported = {
        (row.get("arm"), row.get("seed"), row.get("params_digest"))
        for row in rows
        if row.get("status") in ("finished", "diverged")
    }
    now = {
        (run.arm, str(run.seed), run.result.params_digest or "") for run in study.runs if run.scored
    }
    if reported == now:
        return ""
    new = len(now - reported)
    more = f", {new} of them not in it" if new else ""
    return (
        f"The final report is of {words.count(len(reported), 'run')}; there are {len(now)} now"
        f"{more}. launch.report --final writes it anew, and counts a look at the test split."
    )


def mark(workdir: Path, text: str) -> None:
    """Puts a notice on the pages of a final report, or takes it away with ""; all else on them
    stays as it is."""
    for name, notice in (("report.html", html.notice), ("report.md", markdown.notice)):
        path = workdir / FINAL / name
        if not path.is_file():
            continue
        page = path.read_text("utf-8", errors="backslashreplace")
        before, opening, rest = page.partition(NOTICE[0])
        _, closing, after = rest.partition(NOTICE[1])
        marked = f"{before}{notice(text)}{after}"
        if opening and closing and marked != page:
            files.write_bytes(path, marked.encode())


def _rows(path: Path) -> list[dict[str, str]] | None:
    """The rows of a table; none where it is damaged, None where there is no table."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return None
    except csv.Error:
        return []
