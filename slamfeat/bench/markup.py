"""Pieces of the benchmark's page: its style, its script for sorting, tables and pictures."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from slamfeat.bench.cells import Cell, Table

STYLE = """
:root{color-scheme:light dark;--ink:#111827;--soft:#6b7280;--line:#e5e7eb;--paper:#fff;--box:#f3f4f6;--best:#1d4ed8;
--note:#fef3c7}
@media(prefers-color-scheme:dark){:root{--ink:#e5e7eb;--soft:#9ca3af;--line:#374151;--paper:#111827;--box:#1f2937;
--best:#93c5fd;--note:#422f06}}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.5rem;margin:0}h2{font-size:1.25rem;margin:2.5rem 0 .5rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .3rem}.about,figcaption{color:var(--soft)}a{color:var(--best)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;margin:.6rem 0}
figure{margin:1rem 0}img{max-width:100%;height:auto;background:#fff;border-radius:.5rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}.pictures figure{margin:0}
.wide{overflow-x:auto;margin:.5rem 0}table{border-collapse:collapse}
td,th{border-bottom:1px solid var(--line);padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;
font-variant-numeric:tabular-nums}th{cursor:pointer;white-space:nowrap;color:var(--soft);font-weight:600}
th[aria-sort=ascending]::after{content:" ↑"}th[aria-sort=descending]::after{content:" ↓"}
td.right,th.right{text-align:right;white-space:nowrap}td b{color:var(--best)}tbody tr:hover{background:var(--box)}
code,pre{background:var(--box);border-radius:.3rem}code{padding:.1rem .3rem;overflow-wrap:anywhere}
pre{padding:.8rem;overflow-x:auto;margin:.3rem 0}.note{background:var(--note);border-radius:.5rem;padding:.5rem 2rem}
details{margin:.4rem 0}summary{cursor:pointer}
"""
# A click on a heading sorts by it, a second one the other way round; places without a figure stay last.
SCRIPT = """
for(const th of document.querySelectorAll("th")){const sort=()=>{
const up=th.getAttribute("aria-sort")!=="ascending",at=th.cellIndex,body=th.closest("table").tBodies[0];
for(const other of th.parentNode.cells)other.removeAttribute("aria-sort");
th.setAttribute("aria-sort",up?"ascending":"descending");
const figures=th.classList.contains("right"),key=r=>figures?r.cells[at].dataset.v:r.cells[at].textContent;
const order=(a,b)=>figures?a-b:a.localeCompare(b,"en",{numeric:true});
[...body.rows].sort((r,s)=>{const a=key(r)??"",b=key(s)??"";
if(a===""||b==="")return(a==="")-(b==="");return up?order(a,b):order(b,a)}).forEach(r=>body.append(r))};
th.onclick=sort;th.onkeydown=e=>{if(e.key==="Enter"||e.key===" "){e.preventDefault();sort()}}}
"""


def escape(text: str) -> str:
    """Text for HTML, also within quotes."""
    return html.escape(str(text), quote=True)


def table_html(table: Table) -> str:
    """A table whose headings sort it, the best in bold, with its notes."""
    if not table.rows:
        return "<p>No rows.</p>"
    right = table.right()
    head = "".join(
        f"<th{_side(at_right)} tabindex=0 scope=col>{escape(name)}</th>"
        for name, at_right in zip(table.headings, right, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(cell, at_right) for cell, at_right in zip(row, right, strict=True))}</tr>"
        for row in table.rows
    )
    notes = "".join(f"<p class=about>{escape(note)}</p>" for note in table.notes)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}"


def details(title: str, content: str) -> str:
    """HTML that opens on a click; the title is text, the content HTML."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def image(path: Path, alternative: str) -> str:
    """A PNG file within the page; a sentence where it cannot be read."""
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        return f"<p class=about>{escape(f'{alternative}: {path.name} cannot be read ({error.strerror})')}</p>"
    return f"<img loading=lazy alt='{escape(alternative)}' src='data:image/png;base64,{data}'>"


def _side(at_right: bool) -> str:
    return " class=right" if at_right else ""


def _cell(cell: Cell, at_right: bool) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    value = "" if cell.value is None else f" data-v={cell.value!r}"
    return f"<td{_side(at_right)}{value}>{text}</td>"
