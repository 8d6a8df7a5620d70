"""How a frontend looks in every chart: slamfeat strong, peers muted, reduced precisions dashed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slamfeat.bench.registry import OURS, is_ours
from slamfeat.viz.figure import BLUE

_KNOWN = {
    "orb": ("#c0605a", "s"), "sift": ("#d08a3e", "^"), "gftt-lk": ("#a08060", "P"), "xfeat": ("#5fa08a", "D"),
    "xfeat+lighterglue": ("#2f6b5a", "v"), "aliked+lightglue": ("#b56b8f", "X"), "disk+lightglue": ("#8a78b8", "h"),
}  # fmt: skip
_OTHERS = (("#a3a04a", "<"), ("#8a8f98", ">"), ("#6f9fc8", "p"), ("#7d6b8a", "d"), ("#579a56", "*"), ("#b08f8f", "8"))
_RECIPES = ("#7aa2f0", "#4f7fd0", "#93b8e8", "#3b5fa0")


def color_of(name: str) -> str:
    """A frontend's colour in every chart, by its name alone."""
    if name == OURS:
        return BLUE
    if is_ours(name):
        return _RECIPES[_digest(name) % len(_RECIPES)]
    return _peer(name)[0]


def shown_name(name: str) -> str:
    """A frontend's name in charts: of a recipe's path, which may be long, the file and its folder."""
    return "/".join(Path(name).parts[-2:]) if name.endswith((".yaml", ".yml")) else name


def marker_of(name: str) -> str:
    """A frontend's marker."""
    return "o" if is_ours(name) else _peer(name)[1]


def width_of(name: str) -> float:
    """Width of a frontend's lines in points."""
    return 2.8 if name == OURS else 1.5


def line_of(name: str) -> dict[str, Any]:
    """Matplotlib's settings of a frontend's line with markers."""
    ours = name == OURS
    return {
        "color": color_of(name), "lw": width_of(name), "marker": marker_of(name), "ms": 7 if ours else 5.5,
        "ls": "--" if _plain(name) != name or (is_ours(name) and not ours) else "-", "zorder": 4 if ours else 3,
        "label": shown_name(name),
    }  # fmt: skip


def dot_of(name: str) -> dict[str, Any]:
    """Matplotlib's settings of a frontend's markers without a line."""
    return {**line_of(name), "ls": "none", "ms": 9 if name == OURS else 6.5, "mec": "white", "mew": 0.6}


def legend_below(figure: Any, names: Iterable[str], *, dots: bool = False, most: int = 5) -> None:
    """A legend of frontends below all panels."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **(dot_of(name) if dots else line_of(name))) for name in names]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), most), frameon=False)


def panels(figure: Any, count: int, columns: int, **settings: Any) -> list[Any]:
    """`count` axes in rows of at most `columns`, with a light grid and without the upper and right frame."""
    columns = min(columns, count)
    rows = -(-count // columns)
    flat = list(figure.subplots(rows, columns, squeeze=False, **settings).flat)
    for axes in flat[count:]:
        axes.remove()
    for axes in flat[:count]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    return flat[:count]


def log_ticks(axes: Any) -> None:
    """A logarithmic x axis for what is drawn already, wide enough to have labels and with so few that none overlap."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.margins(x=0.13)
    low, high = axes.get_xlim()
    if high < 4 * low:
        low, high = (low * high) ** 0.5 / 2, (low * high) ** 0.5 * 2
        axes.set_xlim(low, high)
    labelled = "123456789" if high < 10 * low else "125" if high < 2000 * low else "1"
    label = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in labelled else "")
    axes.xaxis.set_major_formatter(label)
    axes.xaxis.set_minor_formatter(label)
    axes.tick_params(axis="x", which="both", length=3.5, labelsize=9)


def chart_file(folder: Path, key: str) -> Path:
    """Where a chart goes."""
    from slamfeat.bench.store import file_name

    return folder / f"{file_name(key)}.png"


def _peer(name: str) -> tuple[str, str]:
    known = _plain(name)
    return _KNOWN[known] if known in _KNOWN else _OTHERS[_digest(name) % len(_OTHERS)]


def _plain(name: str) -> str:
    """The peer that a name with another precision or engine belongs to."""
    return name.removesuffix("-bf16").removesuffix("-openvino")


def _digest(name: str) -> int:
    return zlib.crc32(name.encode())  # the same in every process, unlike hash()
