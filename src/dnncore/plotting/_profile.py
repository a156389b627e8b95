"""Where the time of a training step goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnncore.plotting._axes import new_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dnncore.profiling import Profile

__all__ = ["plot_profile"]

_COLOURS = {
    "forward": "#0072b2",
    "activation": "#56b4e9",
    "slope": "#f0e442",
    "dx": "#e69f00",
    "dw": "#d55e00",
    "update": "#009e73",
    "": "#999999",
}
_WORDS = {"": "other", "dx": "backward: dX", "dw": "backward: dW", "slope": "backward: slope"}


def plot_profile(profile: Profile, ax: Axes | None = None) -> Axes:
    """Plot what ``Network.profile`` found: a bar for each operation, parted by kind of work.

    Parameters
    ----------
    profile : Profile
        The profile.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default into a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    ax = new_axes(ax)
    bars: dict[tuple[int | None, str], float] = {}
    for row in profile.rows:
        bars.setdefault((row.operation, row.name), 0.0)
    first, order = ("gather",), list(bars)
    order.sort(key=lambda bar: (bar[0] is None and bar[1] not in first, bar[0] or 0))
    shown = set()
    for row in profile.rows:
        bar = row.operation, row.name
        ax.barh(
            order.index(bar), row.us, left=bars[bar], color=_COLOURS[row.part], height=0.7,
            label="_" if row.part in shown else _WORDS.get(row.part, row.part),
        )  # fmt: skip
        shown.add(row.part)
        bars[bar] += row.us
    for place, bar in enumerate(order):
        ax.annotate(
            f"{bars[bar] / profile.us:.0%}", (bars[bar], place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    ax.set_yticks(range(len(order)), [shorten(name) for _, name in order])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * max(bars.values()))
    ax.set_xlabel(f"microseconds of a step of {profile.us:,.{0 if profile.us >= 100 else 2}f}")
    ax.set_title(
        f"{profile.gflops:,.3g} GFLOP/s, {profile.gflops / profile.ceiling:.0%} of ceiling"
    )
    ax.legend(fontsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax
