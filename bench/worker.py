"""Child side of the benchmarks: serves one contender over JSON lines.

Started as ``python worker.py NAME``; ``NAME`` is a module of ``peers`` with a class
``Contender``. One request a line on standard input, one answer a line on standard output;
ends when its input does.

=============================================================  ================================
request                                                        answer
=============================================================  ================================
``{"cmd": "setup", "workload": .., "data": .., "threads": ..}``  versions, seconds to import, build
``{"cmd": "epoch", "count": 3, "shuffle": true}``              seconds, steps
``{"cmd": "predict", "calls": 1000}``                          seconds, calls
``{"cmd": "parameters", "path": "p.npz"}``                     ok, after writing the file
``{"cmd": "probabilities", "rows": 8}``                        probabilities of the first rows
=============================================================  ================================

An exception is answered by ``{"error": "Type: message", "missing": bool}``; ``missing`` tells
that a package is not installed.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import time
import traceback
from typing import Any


class Server:
    """Holds the contender between requests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.contender: Any = None
        self.rows: list[Any] = []

    def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        # The import comes first of all, so that its time is not hidden by NumPy's.
        start = time.perf_counter()
        module = importlib.import_module(f"peers.{self.name}")
        import_seconds = time.perf_counter() - start

        import numpy as np
        from workloads import Workload, load_parameters

        self.work = Workload.from_dict(request["workload"])
        parameters = load_parameters(request["parameters"])
        with np.load(request["data"]) as data:
            x, y = data["X"], data["y"]
        self.x = x
        start = time.perf_counter()
        self.contender = module.Contender(self.work, parameters, x, y, request["threads"])
        build_seconds = time.perf_counter() - start
        return {
            "versions": self.contender.versions(),
            "stand_in": getattr(self.contender, "stand_in", ""),
            "pools": thread_pools(),
            "import_seconds": import_seconds,
            "build_seconds": build_seconds,
        }

    def epoch(self, request: dict[str, Any]) -> dict[str, Any]:
        count, shuffle = int(request["count"]), bool(request["shuffle"])
        start = time.perf_counter()
        self.contender.run(count, shuffle)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "steps": count * self.work.steps_per_epoch}

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        calls = int(request["calls"])
        if not self.rows:
            batch = self.work.batch
            self.rows = [
                self.contender.row(self.x[i : i + batch]) for i in range(0, len(self.x), batch)
            ]
        predict = self.contender.predict
        rows = list(itertools.islice(itertools.cycle(self.rows), calls))
        start = time.perf_counter()
        for row in rows:
            predict(row)
        return {"seconds": time.perf_counter() - start, "calls": calls}

    def parameters(self, request: dict[str, Any]) -> dict[str, Any]:
        from workloads import save_parameters

        save_parameters(request["path"], self.contender.parameters())
        return {"ok": True}

    def probabilities(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        contender, batch = self.contender, self.work.batch
        count = -(-int(request["rows"]) // batch)
        rows = [contender.row(self.x[i * batch : (i + 1) * batch]) for i in range(count)]
        # One at a time: a contender may hand out the same output buffer every time.
        values = [np.array(contender.predict(row), float).tolist() for row in rows]
        return {"probabilities": sum(values, [])[: int(request["rows"])]}


def thread_pools() -> list[dict[str, Any]]:
    """Return what threadpoolctl sees of BLAS and OpenMP in this process."""
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return []
    keep = ("internal_api", "version", "num_threads", "architecture", "threading_layer")
    return [{key: pool[key] for key in keep if key in pool} for pool in threadpool_info()]


def main() -> None:
    # Libraries that print must not break the protocol: descriptor 1 becomes standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(server, request["cmd"])(request)
        except Exception as error:
            traceback.print_exc()
            first_line = (str(error).strip().splitlines() or [""])[0]
            answer = {
                "error": f"{type(error).__name__}: {first_line}",
                "missing": isinstance(error, ModuleNotFoundError),
            }
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
