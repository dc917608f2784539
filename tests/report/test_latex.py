"""The tables of a report in LaTeX."""

import re

import workdirs

from cnnjax.report import ablation, latex

CLAIMS = [{"kind": "better", "sides": ["relu", "tanh"], "source": "50 % of `it` & more"}]


def test_latex_is_escaped():
    assert latex.escape("a_b & 5 % `c` −1\n{x}") == (
        r"a\_b \& 5 \% \textasciigrave{}c\textasciigrave{} $-$1 \{x\}"
    )


def test_latex_tables_have_all_rows_and_a_column_for_each_cell(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8, "a_b & c": None}, claims=CLAIMS)
    ablation.write(tmp_path)
    text = (tmp_path / "tables.tex").read_text("utf-8")
    tables = re.findall(r"\\begin{tabular}{(l*r*)}\n(.*?)\\end{tabular}", text, re.DOTALL)
    assert len(tables) == text.count(r"\begin{table}") > 1
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
