"""dnncore through its public API: ``fit`` for as many epochs as a turn has, or ``train_step``."""

from __future__ import annotations

import contextlib
import io
import os

import numpy as np
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Array, Parameters, Workload

import dnncore


class Contender:
    def __init__(
        self, work: Workload, parameters: Parameters, x: Array, y: Array, threads: int
    ) -> None:
        self.work, self.x, self.y = work, x, y
        self.threads = default_if_pinned(threads)
        self.rng = np.random.default_rng(0)
        hidden = [dnncore.Dense(width, work.activation) for width in work.sizes[1:-1]]
        self.net = dnncore.Network(
            work.sizes[0],
            [*hidden, dnncore.Dense(work.sizes[-1])],
            loss=work.loss,
            dtype=work.dtype,
            seed=0,
        )
        flat = [part for layer in parameters for part in layer]
        for view, given in zip(self._views(), flat, strict=True):
            view[...] = given
        if work.optimizer == "adam":
            self.optimizer = dnncore.Adam(work.learning_rate, beta1=BETA1, beta2=BETA2, eps=EPSILON)
        else:
            self.optimizer = dnncore.SGD(work.learning_rate, momentum=MOMENTUM)

    def _views(self) -> list[Array]:
        """Return views of the network's ``W, b, W, b, ...``."""
        return [array for _, array in self.net.named_parameters()]

    def run(self, epochs: int, shuffle: bool) -> None:
        if self.work.by_call:
            for _ in range(epochs):
                for rows in self.work.batches(self.rng, shuffle):
                    self.net.train_step(self.x[rows], self.y[rows], self.optimizer)
            return
        self.net.fit(
            self.x,
            self.y,
            epochs=epochs,
            batch_size=self.work.batch,
            optimizer=self.optimizer,
            shuffle=shuffle,
            n_threads=self.threads,
            verbose=False,
        )

    def parameters(self) -> Parameters:
        views = self._views()
        return list(zip(views[::2], views[1::2], strict=True))

    def row(self, x: Array) -> Array:
        return x

    def predict(self, x: Array) -> Array:
        return np.asarray(self.net.predict_proba(x))

    def versions(self) -> dict[str, str]:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            dnncore.show_versions()
        found = {"dnncore": dnncore.__version__, "dnncore n_threads": str(self.threads)}
        for line in shown.getvalue().splitlines():
            key, _, value = line.partition("  ")
            if key in ("simd level", "native build"):
                found[f"dnncore {key}"] = value.strip()
        return found


def default_if_pinned(threads: int) -> int | None:
    """Return None, dnncore's own choice, where the process may use just that many CPUs.

    That is what users run, and the process cannot use more than its share.
    """
    if threads > 1 and hasattr(os, "sched_getaffinity"):
        if len(os.sched_getaffinity(0)) == threads:
            return None
    return threads
