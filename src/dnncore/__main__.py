"""``python -m dnncore``: the same as the command ``dnncore``."""

from dnncore.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
