"""Puts pieces of a run of ``versus.py`` together.

``python bench/merge.py OUT.json PIECE.json PIECE.json ...``. Each row's contenders were interleaved
within their piece, so a row means as much as in one run; what is lost is that all rows saw the
machine in one state. The pieces, with their times and ceilings, are named in the JSON and in the
tables. Machine, versions and settings must be the same and no row may be there twice, so nobody
can pick the better of two.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from report import render, summarise
from workloads import WORKLOADS

SAME_MACHINE = ("cpu", "cpus_usable", "simd", "system", "python", "packages", "environment")


def merge(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one document with the rows of all pieces, in the order of the table.

    Raises
    ------
    ValueError
        If pieces do not belong together, or a row is there twice.
    """
    first = pieces[0]
    for key in ("schema", "smoke", "settings"):
        _check(key, [piece[key] for piece in pieces])
    for key in SAME_MACHINE:
        _check(f"machine: {key}", [piece["machine"][key] for piece in pieces])
    for name, found in _versions(pieces).items():
        _check(f"versions of {name}", found)
    rows: dict[str, dict[str, Any]] = {}
    for piece in pieces:
        for row in piece["rows"]:
            name = row["workload"]["name"]
            if name in rows:
                raise ValueError(f"row {name!r} is in more than one piece.")
            rows[name] = row
    order = list(WORKLOADS)
    merged = {
        **first,
        "started": min(piece["started"] for piece in pieces),
        "pieces": [
            {
                "started": piece["started"],
                "rows": [row["workload"]["name"] for row in piece["rows"]],
                "peak_gflops": piece["machine"]["peak_gflops"],
                "load_average": piece["machine"]["load_average"],
            }
            for piece in pieces
        ],
        "rows": sorted(rows.values(), key=lambda row: order.index(row["workload"]["name"])),
    }
    summarise(merged)
    return merged


def _check(what: str, values: list[Any]) -> None:
    if any(value != values[0] for value in values):
        raise ValueError(f"the pieces differ in {what}: {values}")


def _versions(pieces: list[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for piece in pieces:
        for row in piece["rows"]:
            for result in row["results"]:
                if "versions" in result:
                    key = f"{result['contender']} x{result['threads']}"
                    found.setdefault(key, []).append(result["versions"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("pieces", type=Path, nargs="+", help="JSON that versus.py wrote")
    asked = parser.parse_args()
    try:
        merged = merge([json.loads(path.read_text()) for path in asked.pieces])
    except ValueError as error:
        parser.error(str(error))
    asked.out.write_text(json.dumps(merged, indent=1) + "\n")
    print(render(merged))


if __name__ == "__main__":
    main()
