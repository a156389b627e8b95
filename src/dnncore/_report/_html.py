"""HTML that is safe by construction: what is no ``Html`` is escaped."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Html", "h", "number", "picture", "share", "table"]


class Html(str):
    """Markup, as opposed to text."""


def h(tag: str, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Parameters
    ----------
    tag : str
        Its name.
    *children : Html, or anything else
        Markup, or values that are shown as text; None is left out.
    **attributes
        ``cls`` is class; other underscores become hyphens; None is left out.
    """
    named = "".join(
        f' {"class" if name == "cls" else name.replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = "".join(c if isinstance(c, Html) else escape(str(c)) for c in children if c is not None)
    return Html(f"<{tag}{named}>{inner}</{tag}>")


def table(head: list[Any], body: list[list[Any]], *, text: int = 1, cls: str = "") -> Html:
    """Return a table that scrolls sideways if it must; the first ``text`` columns are text."""

    def line(cells: list[Any], tag: str) -> Html:
        made = [h(tag, cell, cls=None if i < text else "number") for i, cell in enumerate(cells)]
        return h("tr", *made)

    inside = h("table", h("thead", line(head, "th")), h("tbody", *[line(r, "td") for r in body]))
    return h("div", inside, cls=f"scroll {cls}".strip())


def number(value: float) -> str:
    """Write a number in about four digits."""
    if not np.isfinite(value):
        return "-"
    whole = float(value).is_integer() and abs(value) < 1e9
    text = f"{value:,.0f}" if whole else f"{value:,.4g}" if abs(value) >= 1e-4 else f"{value:.2e}"
    if "e+" in text and abs(value) < 1e9:
        text = f"{value:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


def share(value: float, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return "-" if not np.isfinite(value) else f"{100 * value:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def picture(pixels: NDArray[Any], title: str, cls: str = "pixels") -> Html:
    """Return pixels, gray or RGB and from 0 to 1, as an image inside the page."""
    data = np.clip(np.rint(255 * np.asarray(pixels, np.float64)), 0, 255).astype(np.uint8)
    height, width = data.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), data.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0 if data.ndim == 2 else 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return Html(f'<img class="{cls}" src="{source}" alt="{escape(title)}" title="{escape(title)}">')
