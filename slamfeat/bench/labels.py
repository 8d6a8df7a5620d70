"""Names beside the points of a chart, each where it touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slamfeat.bench.looks import color_of, shown_name
from slamfeat.bench.registry import OURS

# Offset of the text in points and the side it is aligned at.
_SIDES = (
    (10, 0, "left"),
    (-10, 0, "right"),
    (0, 13, "center"),
    (0, -13, "center"),
    (10, 11, "left"),
    (10, -11, "left"),
)
_Box = tuple[float, float, float, float]


def label_points(
    figure: Any,
    axes: Any,
    points: Mapping[str, tuple[float, float]],
    color: Callable[[str], str] = color_of,
    strong: Callable[[str], bool] = lambda name: name == OURS,
    above: bool = False,
) -> None:
    """Write names beside points that are drawn already, each at the first side where it touches nothing.

    Args:
        figure, axes: matplotlib's.
        points: (x, y) in data coordinates, by name.
        color: of a name.
        strong: whether a name is set bold.
        above: try the place above a point first, because a line leaves it to the right.
    """
    figure.canvas.draw()
    scale = figure.dpi / 72
    places = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [(x - 6 * scale, y - 6 * scale, x + 6 * scale, y + 6 * scale) for x, y in places.values()]
    sides = sorted(_SIDES, key=lambda side: side[1] <= 0) if above else _SIDES
    frame = axes.get_window_extent().extents
    for name, point in points.items():
        size = 10.5 if strong(name) else 9
        wide, high = 0.6 * size * len(shown_name(name)) * scale, 1.1 * size * scale
        x, y = places[name]
        side = next((s for s in sides if _free(_box(x, y, wide, high, s, scale), taken, frame)), sides[0])
        taken.append(_box(x, y, wide, high, side, scale))
        axes.annotate(
            shown_name(name), point, xytext=side[:2], textcoords="offset points", ha=side[2], va="center",
            fontsize=size, color=color(name), weight="bold" if strong(name) else "normal",
        )  # fmt: skip


def _box(x: float, y: float, wide: float, high: float, side: tuple[int, int, str], scale: float) -> _Box:
    left = x + side[0] * scale - {"left": 0.0, "center": wide / 2, "right": wide}[side[2]]
    middle = y + side[1] * scale
    return left, middle - high / 2, left + wide, middle + high / 2


def _free(box: _Box, taken: list[_Box], frame: _Box) -> bool:
    inside = box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]
    return inside and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
