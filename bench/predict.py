"""Latency of predictions by number of rows: dnncore and its peers.

``python bench/predict.py [--json FILE]``: probabilities of 1 to 4,096 rows in one call from Python,
for a small and a middle-sized network. The rows `predict` of ``versus.py``, with its method, its
options and its JSON; the probabilities are checked.
"""

from __future__ import annotations

import sys

import versus

if __name__ == "__main__":
    sys.exit(versus.main(["--workloads", "predict", *sys.argv[1:]]))
