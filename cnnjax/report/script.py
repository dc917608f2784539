"""The script of a page: tables sort by the column whose heading is pressed."""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  if (rows.length < 2) continue;
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/\\u2212/g, "-").replace(/,(?=\\d{3})|[<\\[\\s]/g, ""));
    return [number, text];
  };
  const compare = (a, b) => {
    if (isNaN(a[0]) !== isNaN(b[0])) return isNaN(a[0]) ? 1 : -1;
    return isNaN(a[0]) ? a[1].localeCompare(b[1]) : a[0] - b[0];
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    const steps = head.classList.contains("number")
      ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    button.addEventListener("click", () => {
      const next = steps[(steps.indexOf(head.ariaSort || "none") + 1) % 3];
      for (const other of heads) other.ariaSort = null;
      let order = rows;
      if (next !== "none") {
        head.ariaSort = next;
        const turn = next === "ascending" ? 1 : -1;
        order = [...rows].sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          const missing = isNaN(x[0]) !== isNaN(y[0]);
          return missing ? compare(x, y) : turn * compare(x, y);
        });
      }
      body.append(...order);
    });
  });
}
"""
