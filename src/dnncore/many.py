"""Many networks over the same data at once: ensemble members, folds, seeds, hyper-parameters."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnncore._blas_threads import single_threaded_blas
from dnncore._parallel import StopWhenTold, run_all
from dnncore._sparse import as_csr, is_sparse
from dnncore._threads import available_cpus
from dnncore._validation import as_array, as_matrix, check_bool, check_int, check_same_rows
from dnncore.network import Network

if TYPE_CHECKING:
    from dnncore.history import History

__all__ = ["fit_many"]

_NOT_SETTINGS = ("self", "X", "y", "sample_weight", "validation_data", "n_threads", "verbose")


def fit_many(
    networks: Sequence[Network],
    X: ArrayLike,
    y: ArrayLike,
    *,
    rows: Sequence[ArrayLike | None] | None = None,
    sample_weight: ArrayLike | None = None,
    validation_data: tuple[Any, ...] | None = None,
    validation_rows: Sequence[ArrayLike | None] | None = None,
    n_threads: int | None = None,
    verbose: bool = False,
    return_exceptions: bool = False,
    **settings: Any,
) -> list[Any]:  # of History, unless `return_exceptions`
    """Train many networks over the same data, several at a time.

    Each thread trains one network after the other, so that all processors are busy however small
    the networks are. Every network ends with the same bits as if it had been trained alone.

    Parameters
    ----------
    networks : sequence of Network
        The networks, each of them once; sizes, losses, dtypes and seeds may differ.
    X : array_like or sparse matrix of shape (n_samples, n_in)
        Inputs; converted once for each dtype among the networks.
    y : array_like of shape (n_samples,) or (n_samples, n_out)
        Targets, as for ``Network.fit``.
    rows : sequence of array_like, optional
        For each network the rows that it is trained on: their numbers, a boolean mask, or None
        for all of them.
    sample_weight : array_like of shape (n_samples,), optional
        Weight of each row.
    validation_data : tuple, optional
        ``(X, y)`` or ``(X, y, sample_weight)`` for every network, or
    validation_rows : sequence of array_like, optional
        for each network the rows of `X` that it is evaluated on after each epoch.
    n_threads : int, optional
        Networks to train at the same time; the default is the number of processors available.
        What exceeds the number of networks goes to the single network.
    verbose : bool
        Whether to show a progress bar that counts networks.
    return_exceptions : bool
        Whether what stopped a network stands in its place in the result, instead of being raised
        when all are done.
    **settings
        Anything else that ``Network.fit`` takes: ``epochs``, ``batch_size``, ``optimizer``, ...
        A list holds one value for each network, anything else is for all. Callbacks are called
        from several threads, each for its own network: give one list for each network.

    Returns
    -------
    list of History
        In the order of `networks`. With `return_exceptions`, an exception where there was one.

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot be used; nothing has been trained then.
    Exception
        What stopped the first of the networks that failed (``DivergenceError``, or what a callback
        raised), with a note that names them. All the others have been trained.
    KeyboardInterrupt
        At Ctrl-C. Networks that are finished stay so; those in training have stopped after the
        step they were at, as ``Network.fit`` does; a note counts them.

    Notes
    -----
    Rows are copied for each network while it is trained; without `rows` all share one array.
    The most expensive networks come first, so that no thread is left with a long one at the end.

    Examples
    --------
    Three folds, each network validated on the rows that it has not seen:

    >>> import numpy as np
    >>> import dnncore as dnn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 4))
    >>> y = X[:, 0] > X[:, 1]
    >>> fold = np.arange(300) % 3
    >>> nets = [
    ...     dnn.Network(4, [dnn.Dense(8, "tanh"), dnn.Dense(1)], loss="binary_cross_entropy",
    ...                 seed=i)
    ...     for i in range(3)
    ... ]
    >>> histories = dnn.fit_many(nets, X, y, epochs=30, batch_size=16, optimizer=dnn.Adam(0.01),
    ...                          rows=[fold != i for i in range(3)],
    ...                          validation_rows=[fold == i for i in range(3)])
    >>> all(h.history["val_accuracy"][-1] > 0.9 for h in histories)
    True
    """
    found = _check_networks(networks)
    threads = available_cpus() if n_threads is None else check_int(n_threads, "n_threads")
    check_bool(verbose, "verbose")
    check_bool(return_exceptions, "return_exceptions")
    jobs = [
        _Job(i, network, own)
        for i, (network, own) in enumerate(
            zip(found, _by_network(settings, len(found)), strict=True)
        )
    ]
    data = _Data(found, X, y, sample_weight, validation_data)
    for name, given in (("rows", rows), ("validation_rows", validation_rows)):
        for job, some in zip(jobs, _each(name, given, len(found)), strict=True):
            setattr(job, name, data.check_rows(some, f"{name}[{job.place}]"))
    if validation_rows is not None and validation_data is not None:
        raise ValueError("Give validation_data or validation_rows, not both.")
    share = max(1, threads // max(1, len(jobs)))
    stop = StopWhenTold()
    with single_threaded_blas():
        run_all(
            sorted(jobs, key=lambda job: -job.cost(data)),
            lambda job: job.run(data, share, stop),
            threads,
            stop,
            what="networks",
            verbose=verbose,
        )
    failed = [job for job in jobs if isinstance(job.result, Exception)]
    if failed and not return_exceptions:
        raise _with_note(failed, len(jobs))
    return [job.result for job in jobs]


@dataclass
class _Job:
    """One network with what it is to be trained on, and what came of it."""

    place: int
    network: Network
    settings: dict[str, Any]
    rows: NDArray[np.intp] | None = None
    validation_rows: NDArray[np.intp] | None = None
    result: History | Exception | None = None

    def cost(self, data: _Data) -> float:
        n = data.n if self.rows is None else len(self.rows)
        epochs = self.settings.get("epochs", 1)
        return float(n * self.network._program.work_per_row * epochs)

    def run(self, data: _Data, n_threads: int, stop: StopWhenTold) -> None:
        try:
            X, y, weight = data.take(self.network, self.rows)
            validation = data.validation
            if self.validation_rows is not None:
                validation = data.take(self.network, self.validation_rows)
            self.result = self.network.fit(
                X,
                y,
                sample_weight=weight,
                validation_data=validation,
                n_threads=n_threads,
                verbose=False,
                callbacks=[*self.settings.get("callbacks", ()), stop],
                **{k: v for k, v in self.settings.items() if k != "callbacks"},
            )
        except Exception as error:
            self.result = error


class _Data:
    """The examples, checked and converted once, of which each network takes its rows."""

    def __init__(
        self,
        networks: Sequence[Network],
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        validation: tuple[Any, ...] | None,
    ) -> None:
        self.X: dict[Any, Any] = {}  # arrays, or sparse matrices
        for i, network in enumerate(networks):
            if network.dtype not in self.X:
                convert = as_csr if is_sparse(X) else as_matrix
                self.X[network.dtype] = convert(X, "X", dtype=network.dtype)
            columns = self.X[network.dtype].shape[1]
            if columns != network.n_in:
                raise ValueError(
                    f"networks[{i}] has {network.n_in} inputs, but X has {columns} columns."
                )
        self.y = as_array(y, "y")
        self.weight = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        self.n = next(iter(self.X.values())).shape[0] if self.X else 0
        if self.X:
            if self.y.ndim == 0 or (self.weight is not None and self.weight.ndim == 0):
                raise ValueError("y and sample_weight must have one entry for each row of X.")
            check_same_rows(X=self.n, y=self.y, sample_weight=self.weight)
        self.validation = validation

    def take(
        self, network: Network, rows: NDArray[np.intp] | None
    ) -> tuple[Any, NDArray[Any], NDArray[Any] | None]:
        X, y, weight = self.X[network.dtype], self.y, self.weight
        if rows is None:
            return X, y, weight
        return X[rows], y[rows], None if weight is None else weight[rows]

    def check_rows(self, rows: ArrayLike | None, name: str) -> NDArray[np.intp] | None:
        if rows is None:
            return None
        array = as_array(rows, name)
        if array.ndim != 1 or array.dtype.kind not in "iub":
            raise TypeError(
                f"{name} must be a 1-D array of row numbers or a mask; got dtype {array.dtype} "
                f"and shape {array.shape}."
            )
        if array.dtype.kind == "b":
            if len(array) != self.n:
                raise ValueError(
                    f"{name} must have one entry for each of the {self.n} rows; got {len(array)}."
                )
            array = np.flatnonzero(array)
        if len(array) == 0:
            raise ValueError(f"{name} holds no row.")
        if array.min() < 0 or array.max() >= self.n:
            raise ValueError(
                f"{name} must lie between 0 and {self.n - 1}; got {array.min()} to {array.max()}."
            )
        return array.astype(np.intp)


def _check_networks(networks: Sequence[Network]) -> list[Network]:
    if isinstance(networks, Network) or not isinstance(networks, Sequence):
        raise TypeError(f"networks must be a list of networks; got {networks!r}.")
    seen: dict[int, int] = {}
    for i, network in enumerate(networks):
        if not isinstance(network, Network):
            raise TypeError(f"networks[{i}] must be a Network; got {network!r}.")
        if id(network) in seen:
            raise ValueError(
                f"networks[{i}] is the same object as networks[{seen[id(network)]}]; train a "
                "copy, network.copy()."
            )
        seen[id(network)] = i
    return list(networks)


def _each(name: str, values: Sequence[Any] | None, n: int) -> Sequence[Any]:
    """Return one value for each of `n` networks."""
    if values is None:
        return [None] * n
    if isinstance(values, np.ndarray) or not isinstance(values, Sequence) or len(values) != n:
        raise ValueError(f"{name} must be a list with one entry for each of the {n} networks.")
    return values


def _by_network(settings: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """List the settings of each network."""
    known = [s for s in inspect.signature(Network.fit).parameters if s not in _NOT_SETTINGS]
    result: list[dict[str, Any]] = [{} for _ in range(n)]
    for name, value in settings.items():
        if name not in known:
            raise TypeError(f"fit_many has no setting {name!r}; there are {', '.join(known)}.")
        values = _each(name, value, n) if isinstance(value, list) else [value] * n
        for own, one in zip(result, values, strict=True):
            own[name] = one
    for i, own in enumerate(result):
        if "epochs" in own:
            own["epochs"] = check_int(own["epochs"], "epochs", minimum=0)
        if not isinstance(own.get("callbacks", ()), list | tuple):
            raise TypeError(
                f"callbacks must hold one list of callbacks for each network; got "
                f"{own['callbacks']!r} for networks[{i}]."
            )
    return result


def _with_note(failed: list[_Job], n: int) -> Exception:
    first = failed[0].result
    assert isinstance(first, Exception)
    names = ", ".join(f"networks[{job.place}]" for job in failed)
    first.add_note(
        f"fit_many: {len(failed)} of {n} networks failed: {names}. The others are trained; "
        "return_exceptions=True returns their histories."
    )
    return first
