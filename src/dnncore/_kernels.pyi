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
def layer_norm(
    x: NDArray[_Float],
    gamma: NDArray[_Float] | None = None,
    beta: NDArray[_Float] | None = None,
    *,
    eps: float = 1e-5,
    centred: bool = True,
    out: NDArray[_Float] | None = None,
    kept_out: NDArray[_Float] | None = None,
) -> tuple[NDArray[_Float], NDArray[_Float], NDArray[_Float]]: ...
def layer_norm_backward(
    d: NDArray[_Float],
    kept: NDArray[_Float],
    factor: NDArray[_Float],
    gamma: NDArray[_Float] | None = None,
    *,
    centred: bool = True,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def batch_moments(x: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]: ...
def column_sums(x: NDArray[_Float]) -> NDArray[_Float]: ...
def column_dots(x: NDArray[_Float], y: NDArray[_Float]) -> NDArray[_Float]: ...
def batch_norm(
    x: NDArray[_Float],
    mean: NDArray[_Float],
    variance: NDArray[_Float],
    gamma: NDArray[_Float] | None = None,
    beta: NDArray[_Float] | None = None,
    *,
    eps: float = 1e-5,
    out: NDArray[_Float] | None = None,
    kept_out: NDArray[_Float] | None = None,
) -> tuple[NDArray[_Float], NDArray[_Float]]: ...
def batch_norm_backward(
    d: NDArray[_Float],
    kept: NDArray[_Float],
    variance: NDArray[_Float],
    gamma: NDArray[_Float] | None = None,
    *,
    eps: float = 1e-5,
    out: NDArray[_Float] | None = None,
) -> tuple[NDArray[_Float], NDArray[_Float], NDArray[_Float]]: ...
def prelu(
    x: NDArray[_Float], slope: NDArray[_Float], out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
def prelu_backward(
    d: NDArray[_Float],
    x: NDArray[_Float],
    slope: NDArray[_Float],
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def blend(
    x: NDArray[_Float],
    f: NDArray[_Float],
    weight: NDArray[_Float],
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def dropout(
    x: NDArray[_Float], rate: float, key: int, out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
def alpha_dropout(
    x: NDArray[_Float],
    rate: float,
    key: int,
    *,
    backward: bool = False,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def gaussian_noise(
    x: NDArray[_Float], deviation: float, key: int, out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
def sum_squares(x: NDArray[_Float]) -> float: ...
def accumulate(x: NDArray[_Float], y: NDArray[_Float]) -> None: ...
def shape_gradient(
    g: NDArray[_Float],
    w: NDArray[_Float],
    *,
    scale: float = 1.0,
    limit: float = 0.0,
    l1: float = 0.0,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def move_towards(average: NDArray[_Float], w: NDArray[_Float], amount: float) -> None: ...
def limit_columns(w: NDArray[_Float], limit: float) -> None: ...
def sparse_forward(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[_Float],
    w: NDArray[_Float],
    bias: NDArray[_Float] | None = None,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def sparse_gradient(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[_Float],
    dz: NDArray[_Float],
    n_in: int,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
def all_finite(x: NDArray[_Float]) -> bool: ...
def _multiply_adds(itemsize: int, rounds: int) -> int: ...
def _force_matmul_path(path: Literal["own", "blas"] | None) -> None: ...
