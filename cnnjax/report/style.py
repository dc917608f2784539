"""The style sheet of the report's page: one column, system fonts, light and dark."""

CSS = """\
:root {
  --paper: #fffffd; --ink: #1f2421; --muted: #5f6763; --rule: #dfe3e0; --tint: #f4f6f3;
  --accent: #1d5c86; --alarm: #b3341f;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #151817; --ink: #e4e8e5; --muted: #9ba5a0; --rule: #343a37; --tint: #1d211f;
    --accent: #7db8e0; --alarm: #f0907d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 var(--serif); overflow-wrap: break-word;
}
main { max-width: 57rem; margin: 0 auto; padding: 3.5rem 1.25rem 5rem; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 1.5rem; margin-bottom: 2rem; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; font-weight: 600; }
h1 { font-size: clamp(1.7rem, 5.2vw, 2.45rem); margin: 0.4rem 0 0.8rem; letter-spacing: -0.01em; }
h2 { font-size: 1.45rem; margin: 3.2rem 0 0.9rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
section.level2:first-of-type h2 { border-top: 0; padding-top: 0; margin-top: 0; }
h3 { font: 600 1.08rem/1.3 var(--sans); margin: 2.4rem 0 0.6rem; }
summary { cursor: pointer; margin: 2.4rem 0 0.6rem; font-family: var(--sans); }
summary h3 { display: inline; }
p { margin: 0 0 0.9rem; max-width: 42rem; }
.kicker, .subtitle, figcaption, .caption, .note, table, dl, .plot { font-family: var(--sans); }
.kicker { font-size: 0.8rem; letter-spacing: 0.07em; text-transform: uppercase;
  color: var(--accent); margin: 0; font-weight: 600; }
.subtitle { color: var(--muted); font-size: 0.92rem; margin: 0; }
a { color: var(--accent); }
.note { color: var(--muted); font-size: 0.84rem; line-height: 1.5; }
.warning { border-left: 3px solid var(--alarm); padding: 0.1rem 0 0.1rem 0.9rem; }
.supported, .contradicted, .undecided, .open { max-width: 46rem; padding: 0.15rem 0 0.15rem 0.9rem;
  border-left: 4px solid var(--muted); }
.supported { border-color: var(--accent); }
.contradicted { border-color: var(--alarm); }
.open { border-left-style: dotted; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.84rem; line-height: 1.4; min-width: 100%;
  font-variant-numeric: tabular-nums lining-nums; border-bottom: 1.5px solid var(--ink); }
.caption { color: var(--muted); font-size: 0.84rem; margin: 1.2rem 0 0.5rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0 0.4rem 1rem; }
th:first-child, td:first-child { padding-left: 0.4rem; }
th:last-child, td:last-child { padding-right: 0.4rem; }
td > div { width: max-content; max-width: 12rem; overflow-wrap: break-word; }
td:last-child > div { max-width: 27rem; }
th { font-weight: 600; vertical-align: bottom; }
thead tr { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody tr + tr { border-top: 1px solid var(--rule); }
th button { all: unset; cursor: pointer; }
th button:hover, th button:focus-visible { color: var(--accent); text-decoration: underline; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
.number { text-align: right; white-space: nowrap; }
th.number { white-space: normal; }
.strong td { background: var(--tint); font-weight: 600; }
figure { margin: 2rem 0; display: grid; gap: 0.4rem 2rem; align-items: start;
  grid-template-columns: minmax(0, 31rem) minmax(12rem, 1fr); }
.plot svg { display: block; width: 100%; height: auto; }
.plot svg text { font-family: var(--sans) !important; font-variant-numeric: tabular-nums; }
figcaption { color: var(--muted); font-size: 0.84rem; line-height: 1.5; padding-bottom: 0.6rem; }
.wide { grid-template-columns: minmax(0, 1fr); }
.wide svg { min-width: 44rem; }
.pair figure { grid-template-columns: minmax(0, 1fr); margin: 1rem 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
  gap: 0 1.5rem; align-items: start; }
dl { font-size: 0.92rem; line-height: 1.5; margin: 0.8rem 0; display: grid;
  grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr); gap: 0.45rem 1.4rem; }
dt { color: var(--muted); }
dd { margin: 0; white-space: pre-line; overflow-wrap: anywhere; }
pre { background: var(--tint); padding: 0.8rem 1rem; overflow-x: auto; border-radius: 4px;
  font: 0.82rem/1.55 var(--mono); margin: 0.6rem 0 1.1rem; }
@media (max-width: 50rem) {
  figure { grid-template-columns: minmax(0, 31rem); }
  .wide { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 34rem) {
  td > div { max-width: 10rem; }
  td:last-child > div { max-width: 16rem; }
  main { padding-top: 1.75rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0.1rem; }
  dd { margin-bottom: 0.6rem; }
}
@media print {
  main { max-width: none; padding: 0; }
  .scroll, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
  figure, tr { break-inside: avoid; }
}
"""
