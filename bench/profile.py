"""Where the time of dnncore's training step goes, for every workload.

``python bench/profile.py [--workloads NAMES] [--json FILE]``. The engine keeps the time itself:
see ``Network.profile``. For a network of your own there is ``dnncore bench``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

if __name__ != "__main__":
    # Somebody wants the standard library's module of this name, as cProfile does: hand it over.
    _spec = importlib.util.spec_from_file_location(
        __name__, Path(sysconfig.get_path("stdlib"), "profile.py")
    )
    assert _spec is not None and _spec.loader is not None
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    from common import document, write
    from machine import usable_cpus
    from workloads import make_data, select, shrink

    import dnncore

    content = document("profile", asked, (usable_cpus(),), seconds=asked.seconds)
    for work in select(asked.workloads):
        work = shrink(work) if asked.smoke else work
        hidden = [dnncore.Dense(width, work.activation) for width in work.sizes[1:-1]]
        net = dnncore.Network(
            work.sizes[0], [*hidden, dnncore.Dense(work.sizes[-1])], loss=work.loss,
            dtype=work.dtype,
        )  # fmt: skip
        X, y = make_data(work)
        seconds = 0.02 if asked.smoke else asked.seconds
        found = net.profile(X, y, batch_size=work.batch, seconds=seconds)
        print(f"{work.name}: {found}\n", flush=True)
        content["rows"].append({"workload": work.to_dict(), "profile": found.to_dict()})
        write(content, asked.json)
    return content


def main() -> int:
    from common import options

    parser = options(__doc__)
    parser.add_argument("--workloads", default="table", help="names and groups, see workloads.py")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to look at each")
    measure(parser.parse_args())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
