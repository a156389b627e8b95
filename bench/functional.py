"""Measures ``dnncore.functional`` against the same steps in plain NumPy.

    python bench/functional.py [--json FILE] [--rounds N] [--smoke]

The plain version below is what one writes when meeting the subject: one function per step, a new
array for each result, the gradient by the input computed as well. Both versions run in processes
of their own that take turns, so that neither the BLAS threads of one nor a busy machine favours
either. NumPy keeps the BLAS threads that it starts with; dnncore computes on the calling thread.

The table shows the median of the rounds' ratios, and the fastest round of each version. Final
costs must agree.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

VERSIONS = ("plain", "dnncore")
DEEP = [12288, 20, 7, 5, 1]
SMALL = [64, 20, 7, 5, 1]
EXAMPLES = 209


class Plain:
    """The steps in plain NumPy."""

    @staticmethod
    def sigmoid(Z: Any) -> Any:
        return 1 / (1 + np.exp(-Z)), Z

    @staticmethod
    def relu(Z: Any) -> Any:
        return np.maximum(0, Z), Z

    @staticmethod
    def sigmoid_backward(dA: Any, Z: Any) -> Any:
        s = 1 / (1 + np.exp(-Z))
        return dA * s * (1 - s)

    @staticmethod
    def relu_backward(dA: Any, Z: Any) -> Any:
        dZ = np.array(dA, copy=True)
        dZ[Z <= 0] = 0
        return dZ

    @staticmethod
    def linear_forward(A: Any, W: Any, b: Any) -> Any:
        return np.dot(W, A) + b, (A, W, b)

    @classmethod
    def linear_activation_forward(cls, A_prev: Any, W: Any, b: Any, activation: str) -> Any:
        Z, linear_cache = cls.linear_forward(A_prev, W, b)
        A, activation_cache = getattr(cls, activation)(Z)
        return A, (linear_cache, activation_cache)

    @classmethod
    def L_model_forward(cls, X: Any, parameters: Any) -> Any:
        A, caches, n_layers = X, [], len(parameters) // 2
        for i in range(1, n_layers + 1):
            A, cache = cls.linear_activation_forward(
                A,
                parameters[f"W{i}"],
                parameters[f"b{i}"],
                "sigmoid" if i == n_layers else "relu",
            )
            caches.append(cache)
        return A, caches

    @staticmethod
    def compute_cost(AL: Any, Y: Any) -> Any:
        m = Y.shape[1]
        cost = -(np.dot(Y, np.log(AL).T) + np.dot(1 - Y, np.log(1 - AL).T)) / m
        return np.squeeze(cost)

    @staticmethod
    def linear_backward(dZ: Any, cache: Any) -> Any:
        A_prev, W, b = cache
        m = A_prev.shape[1]
        dW = 1 / m * np.dot(dZ, A_prev.T)
        db = 1 / m * np.sum(dZ, axis=1, keepdims=True)
        return np.dot(W.T, dZ), dW, db

    @classmethod
    def linear_activation_backward(cls, dA: Any, cache: Any, activation: str) -> Any:
        linear_cache, Z = cache
        return cls.linear_backward(getattr(cls, f"{activation}_backward")(dA, Z), linear_cache)

    @classmethod
    def L_model_backward(cls, AL: Any, Y: Any, caches: Any) -> Any:
        grads, n_layers = {}, len(caches)
        dA = -(np.divide(Y, AL) - np.divide(1 - Y, 1 - AL))
        for i in range(n_layers, 0, -1):
            dA, dW, db = cls.linear_activation_backward(
                dA, caches[i - 1], "sigmoid" if i == n_layers else "relu"
            )
            grads[f"dA{i - 1}"], grads[f"dW{i}"], grads[f"db{i}"] = dA, dW, db
        return grads

    @staticmethod
    def update_parameters(params: Any, grads: Any, learning_rate: float) -> Any:
        parameters = copy.deepcopy(params)
        for i in range(1, len(parameters) // 2 + 1):
            parameters[f"W{i}"] = parameters[f"W{i}"] - learning_rate * grads[f"dW{i}"]
            parameters[f"b{i}"] = parameters[f"b{i}"] - learning_rate * grads[f"db{i}"]
        return parameters

    @classmethod
    def L_layer_model(
        cls, X: Any, Y: Any, dims: Any, learning_rate: float = 0.0075, num_iterations: int = 3000
    ) -> Any:
        stream, costs = np.random.RandomState(1), []
        parameters = {}
        for i in range(1, len(dims)):
            scale = 1 / np.sqrt(dims[i - 1])
            parameters[f"W{i}"] = stream.randn(dims[i], dims[i - 1]) * scale
            parameters[f"b{i}"] = np.zeros((dims[i], 1))
        for i in range(num_iterations):
            AL, caches = cls.L_model_forward(X, parameters)
            cost = cls.compute_cost(AL, Y)
            grads = cls.L_model_backward(AL, Y, caches)
            parameters = cls.update_parameters(parameters, grads, learning_rate)
            if i % 100 == 0:
                costs.append(cost)
        return parameters, costs


def data(dims: list[int]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.random((dims[0], EXAMPLES))
    Y = (rng.random((1, EXAMPLES)) < X[:1]).astype(float)
    return X, Y


def tasks(F: Any, iterations: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return each task with the number of times that it is repeated within one round."""
    X, Y = data(DEEP)
    X_small, Y_small = data(SMALL)
    parameters, _ = Plain.L_layer_model(X, Y, DEEP, num_iterations=1)
    W, b = parameters["W1"], parameters["b1"]
    AL, caches = Plain.L_model_forward(X, parameters)
    grads = Plain.L_model_backward(AL, Y, caches)
    dA, cache = grads["dA1"], caches[0]
    Z = cache[1]

    def model(X: Any, Y: Any, dims: list[int], n: int) -> Callable[[], Any]:
        return lambda: F.L_layer_model(X, Y, dims, num_iterations=n)

    many, few = 40 * iterations, max(1, iterations // 4)
    return {
        f"L_layer_model {_name(DEEP)}": (model(X, Y, DEEP, iterations), 1),
        f"L_layer_model {_name([12288, 7, 1])}": (model(X, Y, [12288, 7, 1], iterations), 1),
        f"L_layer_model {_name(SMALL)}": (model(X_small, Y_small, SMALL, many), 1),
        "sigmoid": (lambda: F.sigmoid(Z), many),
        "relu": (lambda: F.relu(Z), many),
        "sigmoid_backward": (lambda: F.sigmoid_backward(dA, Z), many),
        "relu_backward": (lambda: F.relu_backward(dA, Z), many),
        "linear_forward": (lambda: F.linear_forward(X, W, b), few),
        "linear_activation_forward": (
            lambda: F.linear_activation_forward(X, W, b, "relu"), few),
        "linear_backward": (lambda: F.linear_backward(dA, cache[0]), few),
        "linear_activation_backward": (
            lambda: F.linear_activation_backward(dA, cache, "relu"), few),
        "L_model_forward": (lambda: F.L_model_forward(X, parameters), few),
        "compute_cost": (lambda: F.compute_cost(AL, Y), many),
        "L_model_backward": (lambda: F.L_model_backward(AL, Y, caches), few),
        "update_parameters": (lambda: F.update_parameters(parameters, grads, 0.01), iterations),
    }  # fmt: skip


def _name(dims: list[int]) -> str:
    return "-".join(map(str, dims))


def serve(version: str, iterations: int) -> None:
    """Child side: runs the task whose name comes in, answers with seconds and final cost."""
    if version == "plain":
        F: Any = Plain
    else:
        from dnncore import functional as F
    todo = tasks(F, iterations)
    for line in sys.stdin:
        run, repeats = todo[line.strip()]
        run()
        start = time.perf_counter()
        for _ in range(repeats):
            result = run()
        seconds = (time.perf_counter() - start) / repeats
        cost = float(result[1][-1]) if "model " in line else None
        print(json.dumps({"seconds": seconds, "cost": cost}), flush=True)


def measure(rounds: int, iterations: int, pause: float) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "--iterations", str(iterations), "--serve"]
    children = {
        version: subprocess.Popen(
            [*command, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for version in VERSIONS
    }
    rows = []
    for task in tasks(Plain, iterations):
        answers: dict[str, list[dict[str, Any]]] = {version: [] for version in VERSIONS}
        for turn in range(rounds):
            for version in VERSIONS if turn % 2 else VERSIONS[::-1]:
                time.sleep(pause)  # OpenBLAS's threads spin for 0.1 s after a product
                child = children[version]
                print(task, file=child.stdin, flush=True)
                line = child.stdout.readline()
                if not line:
                    raise SystemExit(f"the {version} process died on {task}")
                answers[version].append(json.loads(line))
        costs = [answers[version][0]["cost"] for version in VERSIONS]
        if costs[0] is not None and not np.isclose(*costs, rtol=1e-9):
            raise SystemExit(f"{task}: the costs differ: {costs}")
        seconds = {version: [a["seconds"] for a in answers[version]] for version in VERSIONS}
        ratios = [p / d for p, d in zip(seconds["plain"], seconds["dnncore"], strict=True)]
        rows.append(
            {
                "task": task,
                "seconds": seconds,
                "ratio": statistics.median(ratios),
                "ratio_of_fastest": min(seconds["plain"]) / min(seconds["dnncore"]),
            }
        )
    for child in children.values():
        child.stdin.close()
        child.wait()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=20, help="training steps per round")
    parser.add_argument("--smoke", action="store_true", help="one short round")
    parser.add_argument("--serve", choices=VERSIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.iterations)
        return
    if arguments.smoke:
        arguments.rounds, arguments.iterations = 1, 2
    load_before = os.getloadavg()
    rows = measure(arguments.rounds, arguments.iterations, 0 if arguments.smoke else 0.15)
    steps = [row for row in rows if "model " not in row["task"]]
    totals = {v: sum(min(row["seconds"][v]) for row in steps) for v in VERSIONS}
    print(f"{'':36} {'NumPy ms':>10} {'dnncore ms':>10} {'fastest':>8} {'median':>8}")
    for row in rows:
        best = [1e3 * min(row["seconds"][version]) for version in VERSIONS]
        print(
            f"{row['task']:36} {best[0]:10.4f} {best[1]:10.4f} "
            f"{row['ratio_of_fastest']:7.2f}x {row['ratio']:7.2f}x"
        )
    print(
        f"{'steps one by one, in all':36} {1e3 * totals['plain']:10.4f} "
        f"{1e3 * totals['dnncore']:10.4f} {totals['plain'] / totals['dnncore']:7.2f}x"
    )
    if arguments.json:
        document = {"machine": describe((1,)), "load_average_before": load_before, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
