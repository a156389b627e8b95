"""``dnncore train --report``: one page about data, model, training, scores and errors."""

from __future__ import annotations

from dnncore._report._page import make_page
from dnncore._report._run import Part, Run

__all__ = ["Part", "Run", "make_page"]
