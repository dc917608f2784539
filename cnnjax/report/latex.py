"""The tables of a document as LaTeX (booktabs), to be taken into a paper with \\input."""

from cnnjax.report.document import Document, Table

_SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "\u00a0": "~",
}


def write(document: Document) -> str:
    """All tables of a document, in order; needs \\usepackage{booktabs}."""
    tables = [_table(element) for element in document.elements if isinstance(element, Table)]
    return "\n".join(["% \\usepackage{booktabs}", *tables])


def _table(table: Table) -> str:
    columns = "l" * table.labels + "r" * (len(table.head) - table.labels)
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.head),
        r"\midrule",
        *map(_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    # An empty group keeps a cell that opens with a bracket from being an argument of the break.
    return "{}" + " & ".join(map(escape, cells)) + r" \\"


def escape(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))
