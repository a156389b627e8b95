"""Run a script with dnncore's MLPs in place of scikit-learn's.

python -m dnncore.sklearn script.py [arguments]
python -m dnncore.sklearn -m module [arguments]
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from dnncore.sklearn import patch


def main(arguments: list[str]) -> int:
    """Patch, and run what is named as Python would."""
    module = arguments[:1] == ["-m"]
    arguments = arguments[1:] if module else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    patch()
    sys.argv = arguments
    if module:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
