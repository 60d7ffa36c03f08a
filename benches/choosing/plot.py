"""Draws curves over seconds as an SVG. Pure. Used by `slow_start`."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 50


@dataclass(frozen=True)
class Curve:
    """Points (x, y) with a name; `style` is how SVG strokes it."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Axis:
    """From 0 to `most`, with a number each `step`."""

    label: str
    most: float
    step: float

    @property
    def ticks(self) -> list[float]:
        """Where numbers stand."""
        return [one * self.step for one in range(int(self.most / self.step) + 1)]


def svg(title: str, across: Axis, up: Axis, curves: Sequence[Curve]) -> str:
    """The whole file. What is beyond the axes is cut off."""

    def x(value: float) -> float:
        return _LEFT + value / across.most * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / up.most * (_HEIGHT - _TOP - _BOTTOM)

    right, bottom, middle = x(across.most), y(0), (y(0) + y(up.most)) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_WIDTH / 2, 20, title),
        _text((_LEFT + right) / 2, _HEIGHT - 12, across.label),
        _text(16, middle, up.label, f' transform="rotate(-90 16 {middle:.0f})"'),
    ]
    for value in across.ticks:
        parts.append(_text(x(value), bottom + 18, f"{value:g}"))
    for value in up.ticks:
        parts.append(f'<path d="M{_LEFT} {y(value):.1f}H{right:.0f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 22, y(value) + 4, f"{value:g}"))
    for number, curve in enumerate(curves):
        points = " ".join(f"{x(a):.1f},{y(min(b, up.most)):.1f}" for a, b in curve.points)
        parts.append(f'<polyline points="{points}" fill="none" {curve.style}/>')
        line = _TOP + 14 + 18 * number
        parts.append(f'<path d="M{right - 230:.0f} {line}h30" fill="none" {curve.style}/>')
        parts.append(f'<text x="{right - 192:.0f}" y="{line + 4}">{escape(curve.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle"{more}>{escape(text)}</text>'
