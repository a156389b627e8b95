"""Draws the pictures of ``pictures.md`` with the page's own code.

    python docs/make_pictures.py [--out DIR]

A picture below a block of code is the figure of the axes that the block calls ``ax``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(
    r"^```python\n(.*?)^```$(?:\n\s*^```text\n.*?^```$)?(?:\n\s*!\[[^]]*\]\(images/([^)]+)\))?",
    re.M | re.S,
)


def main() -> None:
    """Run the page and save its pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "images", help="folder to write to")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    variables: dict[str, Any] = {"__name__": "pictures"}
    for code, picture in BLOCK.findall((HERE / "pictures.md").read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, "pictures.md", "exec"), variables)
        if picture:
            figure = variables["ax"].figure
            figure.set_size_inches(5.6, 4.2)
            figure.savefig(asked.out / picture, dpi=80)


if __name__ == "__main__":
    main()
