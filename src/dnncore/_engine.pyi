from collections.abc import Sequence
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, final

import numpy as np
from numpy.typing import NDArray

MAX_THREADS: Final[int]
CLOCK_CELLS: Final[tuple[str, ...]]
CLOCK_PARTS: Final[tuple[str, ...]]

Settings = tuple[int, NDArray[np.float64]]
"""Id of an optimizer, and rows of ``(lr, l2, decay, beta1, beta2, eps, clip_value, clip_norm)``."""

class OperationFields(TypedDict):
    kind: str
    source: int
    target: int
    skip: NotRequired[int]
    activation: NotRequired[int]
    trainable: NotRequired[bool]
    weight: NotRequired[int]
    bias: NotRequired[int]
    running: NotRequired[int]
    rate: NotRequired[float]
    momentum: NotRequired[float]
    stream: NotRequired[int]
    l1: NotRequired[float]
    l2: NotRequired[float]
    learning_rate_factor: NotRequired[float]
    max_norm: NotRequired[float]

@final
class Workspace:
    @property
    def workers(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def __new__(
        cls,
        program: Program,
        rows: int,
        workers: int,
        training: bool,
        losses: int,
        sparse: bool = False,
        groups: int = 0,
    ) -> Self: ...

@final
class Data:
    @property
    def rows(self) -> int: ...
    @property
    def x(self) -> NDArray[Any]: ...
    @property
    def labels(self) -> NDArray[np.int32] | None: ...
    @property
    def target(self) -> NDArray[Any] | None: ...
    @property
    def weight(self) -> NDArray[Any] | None: ...
    @property
    def sparse(self) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None: ...
    def __init__(
        self,
        x: NDArray[Any],
        labels: NDArray[np.int32] | None,
        target: NDArray[Any] | None,
        weight: NDArray[Any] | None,
        indptr: NDArray[np.int64] | None = None,
        indices: NDArray[np.int32] | None = None,
    ) -> None: ...

@final
class Position:
    step: int
    epoch: int
    start: int
    loss_sum: float
    weight_sum: float
    finite: bool
    def __init__(
        self,
        step: int = 0,
        epoch: int = 0,
        start: int = 0,
        loss_sum: float = 0.0,
        weight_sum: float = 0.0,
    ) -> None: ...
    def __reduce__(self) -> tuple[type[Position], tuple[int, int, int, float, float]]: ...
    @property
    def loss(self) -> float: ...
    def next_epoch(self) -> None: ...
    def rewind(self) -> None: ...

@final
class Clock:
    @property
    def workers(self) -> int: ...
    def __new__(cls, operations: int, workers: int) -> Clock: ...
    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...

@final
class Average:
    @property
    def params(self) -> NDArray[Any]: ...
    @property
    def count(self) -> int: ...
    def __init__(
        self,
        params: NDArray[Any],
        decay: float,
        warmup: bool,
        count: int,
        start: int,
        every: int,
    ) -> None: ...

@final
class Program:
    clock: Clock | None
    @property
    def params(self) -> NDArray[Any]: ...
    @property
    def rows_kept(self) -> int: ...
    @property
    def may_use_blas(self) -> bool: ...
    @property
    def work_per_row(self) -> int: ...
    def __new__(
        cls,
        params: NDArray[Any],
        widths: list[int],
        operations: list[OperationFields],
        loss: int,
        loss_parameters: Sequence[float],
        seed: int,
    ) -> Program: ...
    def run(
        self,
        data: Data,
        order: NDArray[np.int64] | None,
        position: Position,
        batch_size: int,
        seconds: float,
        max_steps: int,
        optimizer: Settings,
        s1: NDArray[Any] | None,
        s2: NDArray[Any] | None,
        threads: int,
        objective: tuple[float, float, float] | None = None,
        part_rows: int = 0,
        average: Average | None = None,
        ended: NDArray[np.float64] | None = None,
    ) -> None: ...
    def loss_gradient(
        self, data: Data, grads: NDArray[Any], threads: int, gradient_factor: float = 1.0
    ) -> tuple[float, float]: ...
    def forward(self, x: NDArray[Any], step: int, threads: int) -> NDArray[Any]: ...
    def backward(
        self, d_out: NDArray[Any], grads: NDArray[Any], step: int, threads: int
    ) -> NDArray[Any]: ...
    def step(
        self,
        grads: NDArray[Any],
        position: Position,
        optimizer: Settings,
        s1: NDArray[Any] | None,
        s2: NDArray[Any] | None,
        average: Average | None = None,
    ) -> None: ...
    def settle(self, rows: int) -> None: ...
    def infer(
        self, x: NDArray[Any], link: int, out: NDArray[Any], threads: int
    ) -> NDArray[Any]: ...
    def infer_sparse(
        self, data: Data, link: int, out: NDArray[Any], threads: int
    ) -> NDArray[Any]: ...
    def infer_few(self, x: object, link: int) -> NDArray[Any] | None: ...
    def evaluate(
        self, data: Data, threads: int, link: int = 0, out: NDArray[Any] | None = None
    ) -> tuple[float, float]: ...
    def kept(self, slot: int) -> NDArray[Any]: ...
    def workspace_bytes(self, rows: int, threads: int, by_hand: bool = False) -> int: ...
    def groups(self, rows: int) -> int: ...
    def paths(self, rows: int, weights: bool = False) -> list[Literal["own", "blas"]]: ...
    def shuffled(self, n: int, epoch: int, out: NDArray[np.int64]) -> None: ...
