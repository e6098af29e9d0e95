"""Pictures of curves and comparisons, as PNG. matplotlib's object interface, without pyplot."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainers.reporting.anchors import Anchor
from trainers.reporting.curves import Clock, Curve

# Okabe and Ito's colours, told apart by colour-blind people too; then the same with dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (6, 1.5, 1, 1.5)))
DOTTED: Any = {"ls": (0, (1, 1.5)), "lw": 1.4}
GREY = "#555555"
ANCHOR_MARKERS = ("D", "s", "^", "v", "P")
ANCHOR_DASHES = ((0, (2, 2)), (0, (7, 2)), (0, (7, 2, 1, 2)), (0, (1, 3)))

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,  # names come from files: a dollar sign is one
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
WIDTH = 5.0  # inches: at the width of a phone the letters are still 10 pixels high
DPI = 180


@dataclass(frozen=True)
class Look:
    """How a method is drawn, the same in every picture."""

    colour: str
    dashes: str | tuple[float, tuple[float, ...]]


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method."""
    return {
        method: Look(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)])
        for i, method in enumerate(methods)
    }


@contextmanager
def _figure(title: str, height: float = 2.7) -> Iterator[tuple[Axes, io.BytesIO]]:
    """Axes to draw on, and the PNG that is there afterwards, with a legend below the axes."""
    png = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title)
        yield axes, png
        # Not in the axes: it would hide a curve there, however long its names are.
        handles, labels = axes.get_legend_handles_labels()
        labels = [textwrap.fill(label, 66) for label in labels]
        columns = 2 if len(labels) > 2 and max(map(len, labels)) < 30 else 1
        if handles:
            figure.legend(handles, labels, loc="outside lower left", ncols=columns)
        rows = -(-sum(label.count("\n") + 1 for label in labels) // columns)
        figure.set_size_inches(WIDTH, height + (0.1 + 0.2 * rows if rows else 0))
        canvas.print_png(png, metadata={"Software": None})  # savefig would draw everything twice


def learning_curve(
    title: str,
    clock: Clock,
    unit: str,
    curves: Mapping[str, Curve],
    look: Mapping[str, Look],
    anchors: Sequence[tuple[Anchor, str]] = (),
    seeds: bool = True,
) -> bytes:
    """Curves over frames or wall-clock time, with their intervals and with published scores; a PNG.

    Args:
        title: at the top.
        clock: what the curves run over.
        unit: of the vertical axis.
        curves: by method.
        look: by method.
        anchors: each with its colour; drawn where they lie over frames, as lines over time.
        seeds: draw each run as well, and say how many there are.
    """
    end = max(curve.x[-1] for curve in curves.values())
    with _figure(title) as (axes, png):
        scale = _clock_axis(axes, clock, end)
        for method, curve in curves.items():
            _draw(axes, method, curve, look[method], scale, seeds)
        if not all(curve.complete.all() for curve in curves.values()):
            axes.plot([], [], color=GREY, **DOTTED, label="dotted: not all seeds")
        for number, (anchor, colour) in enumerate(anchors):
            _draw_anchor(axes, anchor, colour, number, clock)
        axes.set_ylabel(unit)
        axes.yaxis.set_major_formatter(_thousands)
        axes.set_xlim(0, end / scale * 1.02 or 1.0)
    return png.getvalue()


def _draw(axes: Axes, method: str, curve: Curve, look: Look, scale: float, seeds: bool) -> None:
    x, count = curve.x / scale, len(curve.runs)
    thin: Any = {"color": look.colour, "lw": 0.7, "alpha": 0.4, "zorder": 2}
    for places, values in curve.runs if count > 1 else ():
        axes.plot(places / scale, values, **thin)
    for places, values in curve.aside:
        alone = {"marker": "o", "ms": 3} if len(places) == 1 else {}
        axes.plot(places / scale, values, **thin, **alone, ls=(0, (4, 2)))
    axes.fill_between(x, curve.low, curve.high, color=look.colour, alpha=0.18, lw=0, zorder=1)
    lacking = np.pad(~curve.complete, 1)
    lacking = lacking[:-2] | lacking[1:-1] | lacking[2:]  # up to the points that lack none
    axes.plot(x, np.where(lacking, curve.iqm, np.nan), color=look.colour, zorder=3, **DOTTED)
    axes.plot(
        x,
        np.where(curve.complete, curve.iqm, np.nan),
        color=look.colour,
        ls=look.dashes,
        marker="o" if len(x) == 1 else None,
        ms=4,
        label=f"{method} ({_count(curve)})" if seeds else method,
        zorder=3,
    )


def _count(curve: Curve) -> str:
    """How many runs are shown."""
    count = len(curve.runs)
    if curve.aside:
        return f"{count} finished, {len(curve.aside)} unfinished"
    return f"{count} seed{'s' * (count > 1)}{', unfinished' * (not curve.finished)}"


def _draw_anchor(axes: Axes, anchor: Anchor, colour: str, number: int, clock: Clock) -> None:
    """A published score: over frames at its place, over time (which is not known) as a line."""
    spread = f" ± {anchor.std:,.0f}" if anchor.std is not None else ""
    label = (
        f"published: {anchor.algo} {anchor.score:,.0f}{spread} at {short(anchor.frames)}, "
        f"{anchor.seeds} seed{'s' * (anchor.seeds > 1)} ({anchor.source}, {anchor.version})"
    )
    if clock == "seconds":
        dashes = ANCHOR_DASHES[number % len(ANCHOR_DASHES)]
        axes.axhline(anchor.score, color=colour, lw=1.0, ls=dashes, zorder=1, label=label)
        return
    axes.errorbar(
        anchor.frames,
        anchor.score,
        yerr=anchor.std,
        color=colour,
        marker=ANCHOR_MARKERS[number % len(ANCHOR_MARKERS)],
        ms=6,
        mfc="white",
        mew=1.4,
        elinewidth=1.2,
        capsize=3,
        ls="none",
        label=label,
        zorder=4,
        clip_on=False,
    )


def _clock_axis(axes: Axes, clock: Clock, end: float) -> float:
    """Label the horizontal axis; what its values are divided by."""
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if clock == "frames":
        axes.set_xlabel("frames")
        axes.xaxis.set_major_formatter(lambda value, position: short(value))
        return 1.0
    scale, unit = time_unit(end)
    axes.set_xlabel(f"wall-clock time ({unit})")
    return scale


def time_unit(seconds: float) -> tuple[float, str]:
    """Seconds in a unit that suits so many of them, and its name."""
    return (1.0, "s") if seconds < 300 else (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def profiles(
    title: str,
    thresholds: np.ndarray,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    look: Mapping[str, Look],
) -> bytes:
    """Performance profiles; a PNG.

    Args:
        title: at the top.
        thresholds: of the normalised score, ``[n]``.
        lines: by method the share of runs above each threshold, its low and its high end, ``[n]``.
        look: by method.
    """
    with _figure(title) as (axes, png):
        for method, (share, low, high) in lines.items():
            colour = look[method].colour
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, lw=0, step="post")
            axes.plot(
                thresholds, share, color=colour, ls=look[method].dashes, label=method,
                drawstyle="steps-post",
            )  # fmt: skip
        axes.set_xlabel("normalised score")
        axes.set_ylabel("share of runs above it")
        axes.set_ylim(-0.02, 1.02)
        axes.margins(x=0.0)
    return png.getvalue()


def improvements(
    title: str, rows: Sequence[tuple[str, float, float, float]], colours: Sequence[str]
) -> bytes:
    """Probabilities of improvement with their intervals; a PNG.

    Args:
        title: at the top.
        rows: what is compared, the estimate, its low and its high end.
        colours: one for each row.
    """
    labels = [textwrap.fill(label, 58) for label, *_ in rows]
    lines = max(label.count("\n") + 1 for label in labels)
    with _figure(title, height=0.8 + (0.34 + 0.17 * lines) * len(rows)) as (axes, png):
        places = np.arange(len(rows))[::-1]
        for place, label, row, colour in zip(places, labels, rows, colours, strict=True):
            _, middle, low, high = row
            name = axes.text(0, place + 0.2, label, fontsize=9, va="bottom")
            name.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
            name.set_in_layout(False)  # else the axes make room for it at their right
            axes.barh(place, high - low, left=low, height=0.3, color=colour, alpha=0.3)
            axes.plot([middle, middle], [place - 0.18, place + 0.18], color=colour, lw=2.2)
        axes.axvline(0.5, color=GREY, lw=1.0, ls=(0, (2, 2)), zorder=1)
        axes.set_yticks([])
        axes.set_ylim(-0.4, len(rows) - 0.2)
        axes.set_xlim(-0.01, 1.01)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("probability that a run of the first is better")
    return png.getvalue()


def short(number: float) -> str:
    """A count as 50k, 1.25M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _thousands(value: float, position: float) -> str:
    return f"{value:,.10g}"
