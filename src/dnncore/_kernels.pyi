from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)

ACTIVATIONS: dict[str, int]
LOSSES: dict[str, int]
LOSS_PARAMETERS: dict[str, tuple[str, float, float, float, bool]]
LOSS_IDS: dict[str, int]
OPTIMIZERS: dict[str, tuple[int, tuple[str, ...]]]
SIMD_LEVEL: str

def simd_levels() -> tuple[str, ...]: ...
def describe_paths() -> str: ...
def exp(x: NDArray[_Float], out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
def tanh(x: NDArray[_Float], out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
def erf(x: NDArray[_Float], out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
def sigmoid(x: NDArray[_Float], out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
def softplus(x: NDArray[_Float], out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
def activation_forward(
    name: str, z: NDArray[_Float], out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
def activation_backward(
    name: str,
    da: NDArray[_Float],
    z: NDArray[_Float] | None,
    a: NDArray[_Float] | None,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def product(
    a: NDArray[_Float],
    b: NDArray[_Float],
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: NDArray[_Float] | None = None,
    out: NDArray[_Float] | None = None,
    accumulate: bool = False,
    relu: bool = False,
    gate: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def product_path(rows: int, columns: int, depth: int) -> Literal["own", "blas"]: ...
def dense_forward(
    x: NDArray[_Float],
    w: NDArray[_Float],
    b: NDArray[_Float],
    activation: str = "identity",
    out: NDArray[_Float] | None = None,
    z_out: NDArray[_Float] | None = None,
) -> tuple[NDArray[_Float], NDArray[_Float] | None]: ...
def dense_backward(
    da: NDArray[_Float],
    x: NDArray[_Float],
    w: NDArray[_Float],
    z: NDArray[_Float] | None,
    a: NDArray[_Float] | None,
    activation: str = "identity",
    *,
    need_dx: bool = True,
    dx_out: NDArray[_Float] | None = None,
    dw_out: NDArray[_Float] | None = None,
    db_out: NDArray[_Float] | None = None,
    dz_out: NDArray[_Float] | None = None,
) -> tuple[NDArray[_Float] | None, NDArray[_Float], NDArray[_Float]]: ...
def loss(
    name: str,
    logits: NDArray[_Float],
    target: NDArray[_Float] | NDArray[np.integer[Any]],
    sample_weight: NDArray[_Float] | None = None,
    *,
    parameter: float | Sequence[float] | None = None,
    grad_out: NDArray[_Float] | None = None,
) -> tuple[float, NDArray[_Float]]: ...
def optimizer_update(
    name: str,
    w: NDArray[_Float],
    g: NDArray[_Float],
    state: dict[str, NDArray[_Float]],
    step: int,
    *,
    lr: float,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    rho: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None: ...
def shuffle(
    n: int,
    seed: int,
    stream: int = 0,
    epoch: int = 0,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]: ...
def all_finite(x: NDArray[_Float]) -> bool: ...
def _multiply_adds(itemsize: int, rounds: int) -> int: ...
def _force_matmul_path(path: Literal["own", "blas"] | None) -> None: ...
