"""Measures ``dnncore.sklearn`` against scikit-learn's MLP: the same ``fit`` calls through both.

python bench/sklearn_dropin.py --json bench/results/sklearn_dropin.json

Both take turns, in one process, once for each of the seeds. Scikit-learn has one BLAS thread, and
for the first two seeds the threads that it starts with as well; its better time counts. dnncore
chooses its threads. A time is the best of all seeds. Every fit makes as many epochs or iterations
as it is asked for, so both do the same work, and the test scores of all seeds must agree within
noise; the exit status is 1 if they do not, or if anything is slower than scikit-learn.

A grid search is also timed with the threads that dnncore chooses and with one thread for each fit,
alone and with two jobs: the more threads may not cost a tenth.

``--append`` measures some workloads anew and leaves what else the JSON has.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import common
import joblib
import numpy as np
import scipy.sparse
import sklearn.datasets
import sklearn.neural_network as theirs
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from dnncore import datasets
from dnncore import sklearn as ours

SEEDS = range(5)
SOLVERS = ("adam", "sgd", "lbfgs")
DTYPES = ("float32", "float64")


class Work(NamedTuple):
    """What is fitted, and how long: epochs, or iterations of L-BFGS."""

    kind: str
    load: Callable[[bool], tuple[Any, Any, Any, Any]]
    epochs: int
    iterations: int
    parameters: dict[str, Any]


def bundled(loader: Callable[..., Any]) -> Callable[[bool], tuple[Any, Any, Any, Any]]:
    def load(smoke: bool) -> tuple[Any, Any, Any, Any]:
        X, y = loader(return_X_y=True)
        if y.dtype.kind == "f":
            y = (y - y.mean(axis=0)) / y.std(axis=0)
        parts = train_test_split(StandardScaler().fit_transform(X), y, random_state=0)
        return parts[0], parts[2], parts[1], parts[3]

    return load


def fashion(smoke: bool) -> tuple[Any, Any, Any, Any]:
    if smoke:
        rng = np.random.default_rng(0)
        return (*(rng.random((300, 784)), np.arange(300) % 10) * 2,)
    return datasets.load_fashion_mnist()


def regression(smoke: bool) -> tuple[Any, Any, Any, Any]:
    """Return inputs and a smooth function of them, with noise."""
    rng = np.random.default_rng(0)
    n = 600 if smoke else 110_000
    X = rng.standard_normal((n, 50))
    y = np.tanh(X @ rng.standard_normal((50, 20)) / 7) @ rng.standard_normal(20)
    y = y / y.std() + 0.1 * rng.standard_normal(n)
    rows = 10 * n // 11
    return X[:rows], y[:rows], X[rows:], y[rows:]


def text(smoke: bool) -> tuple[Any, Any, Any, Any]:
    """Return bags of some 60 words of 20,000, most of them rare, on four topics."""
    rng = np.random.default_rng(0)
    n, words = (200, 2000) if smoke else (6000, 20_000)
    usual = 1 / np.arange(1, words + 1)
    topics = [usual * rng.permutation(np.linspace(0.2, 5, words)) for _ in range(4)]
    y = rng.integers(4, size=n)
    lengths = rng.poisson(80, n) + 1
    drawn = [
        rng.choice(words, length, p=topics[k] / topics[k].sum())
        for k, length in zip(y, lengths, strict=True)
    ]
    X = scipy.sparse.csr_matrix(
        (np.ones(lengths.sum()), np.concatenate(drawn), np.append(0, np.cumsum(lengths))),
        shape=(n, words),
    )
    X.sum_duplicates()
    rows = 5 * n // 6
    return X[:rows], y[:rows], X[rows:], y[rows:]


WORK = {
    "iris": Work("Classifier", bundled(sklearn.datasets.load_iris), 50, 50, {}),
    "wine": Work("Classifier", bundled(sklearn.datasets.load_wine), 50, 50, {}),
    "breast cancer": Work("Classifier", bundled(sklearn.datasets.load_breast_cancer), 50, 30, {}),
    "digits": Work("Classifier", bundled(sklearn.datasets.load_digits), 20, 20, {}),
    "diabetes": Work("Regressor", bundled(sklearn.datasets.load_diabetes), 50, 50, {}),
    "linnerud": Work("Regressor", bundled(sklearn.datasets.load_linnerud), 50, 50, {}),
    "Fashion-MNIST": Work("Classifier", fashion, 2, 3, {"hidden_layer_sizes": (100, 100)}),
    "100k x 50": Work("Regressor", regression, 4, 8, {}),
    "sparse text": Work("Classifier", text, 2, 3, {}),
}
GRID = {"alpha": [1e-4, 1e-2, 1.0], "hidden_layer_sizes": [(20,), (50, 20)]}
JOBS = {"1 job": ("loky", 1), "2 processes": ("loky", 2), "2 threads": ("threading", 2)}


def fit(module: Any, seed: int, work: Work, solver: str, data: Any) -> tuple[float, float]:
    """Return seconds of a fit, and its score on the test rows."""
    X, y, X_test, y_test = data
    n = work.iterations if solver == "lbfgs" else work.epochs
    model = getattr(module, f"MLP{work.kind}")(
        solver=solver, random_state=seed, max_iter=n, tol=0.0, n_iter_no_change=n + 1,
        **work.parameters,
    )  # fmt: skip
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start, model.score(X_test, y_test)


def search(module: Any, seed: int, data: Any) -> tuple[float, float]:
    X, y, X_test, y_test = data
    model = GridSearchCV(
        module.MLPClassifier(random_state=seed, max_iter=20, tol=0.0, n_iter_no_change=21),
        GRID,
        cv=3,
    )
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start, model.score(X_test, y_test)


def oversubscription(smoke: bool, turns: int) -> dict[str, Any]:
    """Time a grid search whose fits would take two threads if they were alone, three ways."""
    X, y, _, _ = WORK["digits"].load(smoke)
    found = {}
    for name, (backend, jobs) in JOBS.items():
        seconds: dict[str, list[float]] = {"default": [], "one_thread": []}
        for turn in range(1 + turns):  # the first starts the workers
            both = list(zip((None, 1), seconds.values(), strict=True))
            for threads, taken in both[:: 1 if turn % 2 else -1]:
                model = GridSearchCV(
                    ours.MLPClassifier(
                        (400, 400), batch_size=400, random_state=0, n_threads=threads,
                        max_iter=2 if smoke else 15, tol=0.0, n_iter_no_change=99,
                    ),
                    {"alpha": [1e-4] if smoke else [1e-4, 1e-2]}, cv=2, n_jobs=jobs, refit=False,
                )  # fmt: skip
                start = time.perf_counter()
                with joblib.parallel_config(backend):
                    model.fit(X, y)
                if turn:
                    taken.append(round(time.perf_counter() - start, 4))
        ratio = min(seconds["default"]) / min(seconds["one_thread"])
        found[name] = {"ratio": round(ratio, 3), "seconds": seconds}
        print(f"grid search, {name}: {ratio:.2f} times the time of one thread", flush=True)
    return found


def measure(
    call: Callable[[Any, int], tuple[float, float]], seeds: range, settle: float
) -> dict[str, Any]:
    """Let both fit with every seed, taking turns."""
    seconds: dict[str, list[float]] = {"sklearn": [], "sklearn_one_thread": [], "dnncore": []}
    scores: dict[str, list[float]] = {"sklearn": [], "dnncore": []}
    for seed in seeds:
        with threadpool_limits(1):
            taken, score = call(theirs, seed)
        seconds["sklearn_one_thread"].append(taken)
        scores["sklearn"].append(score)
        taken, score = call(ours, seed)
        seconds["dnncore"].append(taken)
        scores["dnncore"].append(score)
        if seed < 2:
            seconds["sklearn"].append(call(theirs, seed)[0])
            time.sleep(settle)  # BLAS threads go on spinning for that long
    row: dict[str, Any] = {f"{name}_s": round(min(s), 6) for name, s in seconds.items()}
    best = min(row["sklearn_s"], row["sklearn_one_thread_s"])
    row["ratio"] = round(best / row["dnncore_s"], 3)
    row["seconds"] = {name: [round(x, 6) for x in s] for name, s in seconds.items()}
    row["scores"] = {name: [round(float(x), 6) for x in s] for name, s in scores.items()}
    gap = statistics.mean(scores["dnncore"]) - statistics.mean(scores["sklearn"])
    noise = statistics.stdev(scores["sklearn"]) / math.sqrt(len(seeds)) if len(seeds) > 1 else 1.0
    row["score_gap"], row["agrees"] = round(gap, 6), bool(abs(gap) <= 2 * noise + 1e-3)
    return row


def mean_ratio(rows: list[dict[str, Any]]) -> float:
    return math.exp(statistics.mean(math.log(row["ratio"]) for row in rows))


def show(rows: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(row["workload"] for row in rows)
    body = []
    for name in names:
        cells = []
        for dtype in DTYPES:
            for solver in SOLVERS:
                found = [
                    r for r in rows
                    if (r["workload"], r["dtype"], r["solver"]) == (name, dtype, solver)
                ]  # fmt: skip
                cells.append(f"{found[0]['ratio']:.1f}" if found else "-")
        body.append([name, *cells])
    header = ["times as fast", *(f"{s}, {d}" for d in DTYPES for s in SOLVERS)]
    return common.table(header, body)


def main() -> int:
    parser = common.options(__doc__)
    parser.add_argument("--workloads", default=",".join([*WORK, "grid search", "oversubscription"]))
    parser.add_argument("--append", action="store_true", help="to what the JSON has already")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    seeds = range(2) if asked.smoke else SEEDS
    settle = 0.0 if asked.smoke else 0.3
    content = common.document("sklearn_dropin", asked, seeds=len(seeds))
    rows = content["rows"]
    names = asked.workloads.split(",")
    if asked.append:
        before = json.loads(asked.json.read_text())
        rows += [row for row in before["rows"] if row["workload"] not in names]
        content["oversubscription"] = before.get("oversubscription", {})
    if "oversubscription" in names:
        names.remove("oversubscription")
        content["oversubscription"] = oversubscription(asked.smoke, 1 if asked.smoke else 4)
    for name in names:
        work = WORK["digits" if name == "grid search" else name]
        if asked.smoke:
            work = work._replace(epochs=3, iterations=3)
        X, y, X_test, y_test = work.load(asked.smoke)
        for dtype in DTYPES:
            data = X.astype(dtype), y, X_test.astype(dtype), y_test
            for solver in SOLVERS if name != "grid search" else ("adam",):
                call = partial(fit, work=work, solver=solver, data=data)
                if name == "grid search":
                    call = partial(search, data=data)
                row = measure(call, seeds, settle)
                rows.append({"workload": name, "dtype": dtype, "solver": solver, **row})
                print(
                    f"{name:14} {dtype} {solver:5} {1e3 * row['sklearn_s']:9.1f} "
                    f"{1e3 * row['sklearn_one_thread_s']:9.1f} {1e3 * row['dnncore_s']:9.1f} ms "
                    f"{row['ratio']:6.2f} x, scores {row['score_gap']:+.4f}"
                    f"{'' if row['agrees'] else ' DISAGREE'}",
                    flush=True,
                )
                common.write(content, asked.json)
    rows.sort(key=lambda row: [*WORK, "grid search"].index(row["workload"]))
    content["mean_ratio"] = round(mean_ratio(rows), 3)
    content["least_ratio"] = min(row["ratio"] for row in rows)
    common.write(content, asked.json)
    print(show(rows))
    print(
        f"geometric mean {content['mean_ratio']:.2f}, least {content['least_ratio']:.2f}, "
        f"{len(rows)} rows"
    )
    wrong = [r for r in rows if not r["agrees"] or r["ratio"] < 1]
    wrong += [r for r in content.get("oversubscription", {}).values() if r["ratio"] > 1.1]
    return 1 if wrong and not asked.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
