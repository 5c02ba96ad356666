"""Plots of results, as PNG and SVG: black and white by markers, lines and hatches, error bars over the runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]
Getter = Callable[[Figures], float | None]

_STYLES: Final = (
    ("o", "-"),
    ("s", "--"),
    ("^", "-."),
    ("D", (0, (5, 1))),
    ("v", (0, (3, 1, 1, 1))),
    ("x", (0, (1, 1))),
)
_HATCHES: Final = ("", "///", "...", "xxx", "---")
_PAPER_STYLE: Final[dict[str, Any]] = {"color": "0.45", "linestyle": ":", "markerfacecolor": "white", "linewidth": 1.0}
_RC: Final[dict[Any, Any]] = {
    "svg.hashsalt": "qunfs",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.axisbelow": True,
}
_INCHES: Final = (6.0, 3.8)
LEGEND_INSIDE_MAX: Final = 4
"""More lines than that need a legend of their own below the plot."""


@dataclass(slots=True)
class Line:
    """A line of a plot: points, and how far the runs spread around each."""

    label: str
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    from_paper: bool = False

    def add(self, x: float, y: float | None, spread: Sequence[float] = ()) -> None:
        """One more point; none where there is no figure."""
        if y is not None:
            self.x.append(x)
            self.y.append(y)
            self.low.append(max(0.0, y - min(spread, default=y)))
            self.high.append(max(0.0, max(spread, default=y) - y))


def paper_line(label: str, points: Mapping[int, float]) -> Line:
    """The paper's own points."""
    return Line(label, [float(x) for x in points], list(points.values()), from_paper=True)


def require_matplotlib() -> None:
    """Raises LocalError when matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise LocalError("plots need matplotlib; install the extra: pip install 'qunfs[bench]'") from error
    matplotlib.use("Agg")


def plot(documents: Sequence[Figures], directory: Path) -> list[Path]:
    """Draw what the documents have results for; the files that were written."""
    require_matplotlib()
    from bench import figures

    records = [one for document in documents for one in document["results"]]
    written: list[Path] = []
    for name, draw in figures.ALL.items():
        made = draw(records)
        if made is not None:
            written += save(made, directory / name)
    return written


def lines_plot(
    lines: Iterable[Line], title: str, x_label: str, y_label: str, *, log_x: bool = False, log_y: bool = False
) -> "Figure | None":
    """A plot of lines; None when there is nothing of ours to show."""
    shown = [line for line in lines if line.x]
    if not any(not line.from_paper for line in shown):
        return None
    made, axes = _new(title, x_label, y_label)
    ours = papers = 0
    for line in shown:
        marker, dashes = _STYLES[(papers if line.from_paper else ours) % len(_STYLES)]
        if line.from_paper:
            axes.plot(line.x, line.y, marker=marker, label=line.label, **_PAPER_STYLE)
            papers += 1
            continue
        ours += 1
        axes.errorbar(
            line.x, line.y, yerr=(line.low, line.high), label=line.label,
            color="black", marker=marker, markersize=4, linestyle=dashes, linewidth=1.2, capsize=3,
        )  # fmt: skip
    if log_x:
        axes.set_xscale("log")
    else:
        axes.set_xticks(sorted({x for line in shown for x in line.x}))
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if len(shown) > LEGEND_INSIDE_MAX:
        made.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    else:
        axes.legend(frameon=False, fontsize=8)
    return made


def bars_plot(
    names: Sequence[str], groups: Sequence[tuple[str, Sequence[float | None]]], title: str, y_label: str
) -> "Figure | None":
    """A plot of bars side by side, for each name one of each group."""
    if not names:
        return None
    made, axes = _new(title, "", y_label)
    width = 0.8 / len(groups)
    for place, (label, values) in enumerate(groups):
        at = [i + (place - (len(groups) - 1) / 2) * width for i in range(len(names))]
        heights = [value or 0.0 for value in values]
        shade = "white" if place else "0.35"
        axes.bar(at, heights, width, label=label, color=shade, edgecolor="black", hatch=_HATCHES[place % len(_HATCHES)])
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=8)
    return made


def _new(title: str, x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        made = Figure(figsize=_INCHES, layout="constrained")
        axes = made.add_subplot()
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return made, axes


def save(made: "Figure", stem: Path) -> list[Path]:
    """The figure as PNG and SVG.  Raises LocalError when they cannot be written."""
    import matplotlib

    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with matplotlib.rc_context(_RC):
        for path in paths:
            try:
                made.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
            except OSError as error:
                raise LocalError(f"{path}: {error.strerror}; name a directory that you can write to") from error
    return paths
