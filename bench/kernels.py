"""Each compiled kernel against NumPy, SciPy's BLAS and what the machine can do at best.

``python bench/kernels.py [--json FILE]``, on one thread. Products are held to the floating-point
ceiling, all others to the memory ceiling: what a loop reads and writes a second of arrays that are
as large as the kernel's, in place if the kernel works in place (``peak.py``). NumPy is the
kernel's twin in ``dnncore.reference``, for products ``np.matmul`` into an array that is there
already; BLAS is SciPy's ``gemm``, called so that nothing is copied.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from common import document, micro, options, summary, table, take_turns, write
from peak import PeakProbe
from scipy.linalg import blas
from threadpoolctl import threadpool_limits

from dnncore import kernels, reference

SHAPES = [
    *((32, 16, 16), (32, 64, 64), (200, 100, 64), (64, 128, 128), (64, 128, 784), (128, 10, 64)),
    *((128, 256, 256), (256, 256, 54), (128, 512, 512), (128, 512, 784), (256, 1024, 784)),
    *((256, 1024, 1024), (256, 2048, 2048)),
]
"""Rows, outputs and inputs of a layer: those of the workloads, and the squares between."""

SIZES = {"L2": (128, 256), "L3": (1024, 512), "memory": (8192, 2048)}
"""Shapes of activations, by where an array of them (float32) lies."""

PARAMETERS = {"L2": 40_000, "L3": 400_000, "memory": 8_000_000}

Case = tuple[dict[str, Any], dict[str, Callable[[], Any]]]


def products(dtype: str, shapes: list[tuple[int, int, int]]) -> Iterator[Case]:
    """Yield the three products of a layer: forward with bias and relu, ``dX`` and ``dW``."""
    rng = np.random.default_rng(0)
    gemm = blas.sgemm if dtype == "float32" else blas.dgemm
    for rows, n_out, n_in in shapes:
        x = rng.standard_normal((rows, n_in)).astype(dtype)
        w = rng.standard_normal((n_in, n_out)).astype(dtype)
        dz = rng.standard_normal((rows, n_out)).astype(dtype)
        bias = np.zeros(n_out, dtype)
        z, dx, dw = np.empty_like(dz), np.empty_like(x), np.empty_like(w)
        for name, a, b, out, transposed in (
            ("x w", x, w, z, (False, False)),
            ("dz w'", dz, w, dx, (False, True)),
            ("x' dz", x, dz, dw, (True, False)),
        ):
            forward = {"bias": bias, "relu": True} if name == "x w" else {}
            yield (
                {
                    "group": "products",
                    "kernel": name,
                    "dtype": dtype,
                    "shape": [rows, n_out, n_in],
                    "flops": 2 * rows * n_out * n_in,
                },
                {
                    "dnncore": _bind(
                        kernels.matmul, a, b, transpose_a=transposed[0],
                        transpose_b=transposed[1], out=out, **forward,
                    ),
                    "numpy": _bind(
                        np.matmul, a.T if transposed[0] else a, b.T if transposed[1] else b, out=out
                    ),
                    # Row-major out = op(a) op(b) is column-major out' = op(b)' op(a)'.
                    "blas": _bind(
                        gemm, 1.0, b.T, a.T, c=out.T, trans_a=transposed[1], trans_b=transposed[0],
                        overwrite_c=True,
                    ),
                },
            )  # fmt: skip


def activations(dtype: str, sizes: dict[str, tuple[int, int]]) -> Iterator[Case]:
    """Yield every activation, forward and backward."""
    rng = np.random.default_rng(0)
    for where, shape in sizes.items():
        z = rng.standard_normal(shape).astype(dtype)
        da, out = rng.standard_normal(shape).astype(dtype), np.empty_like(z)
        for name in kernels.ACTIVATIONS:
            a = kernels.activation_forward(name, z)
            about = {"dtype": dtype, "where": where, "elements": z.size}
            yield (
                {"group": "forward", "kernel": name, "bytes": 2 * z.nbytes, **about},
                {
                    "dnncore": _bind(kernels.activation_forward, name, z, out=out),
                    "numpy": _bind(reference.activation_forward, name, z),
                },
            )
            yield (
                {
                    "group": "backward",
                    "kernel": name,
                    "bytes": (3 - (name == "identity")) * z.nbytes,
                    **about,
                },
                {
                    "dnncore": _bind(kernels.activation_backward, name, da, z, a, out=out),
                    "numpy": _bind(reference.activation_backward, name, da, z, a),
                },
            )


def losses(dtype: str, shapes: dict[str, tuple[int, int]]) -> Iterator[Case]:
    """Yield every loss: value and gradient from logits."""
    rng = np.random.default_rng(0)
    for where, shape in shapes.items():
        z = rng.standard_normal(shape).astype(dtype)
        grad = np.empty_like(z)
        values = rng.integers(0, 2, shape).astype(dtype)
        labels = rng.integers(0, shape[1], shape[0]).astype(np.int32)
        for name in kernels.LOSSES:
            target = labels if name == "softmax_cross_entropy" else values
            yield (
                {
                    "group": "losses",
                    "kernel": name,
                    "dtype": dtype,
                    "where": where,
                    "elements": z.size,
                    "bytes": 2 * z.nbytes + target.nbytes,
                },
                {
                    "dnncore": _bind(kernels.loss, name, z, target, grad_out=grad),
                    "numpy": _bind(reference.loss, name, z, target),
                },
            )


def optimizers(dtype: str, sizes: dict[str, int]) -> Iterator[Case]:
    """Yield every optimizer's update of a flat array."""
    rng = np.random.default_rng(0)
    for where, n in sizes.items():
        w, g = (rng.standard_normal(n).astype(dtype) for _ in range(2))
        for name, moments in kernels.OPTIMIZERS.items():
            states = [{key: np.zeros(n, dtype) for key in moments} for _ in range(2)]
            yield (
                {
                    "group": "optimizers",
                    "kernel": name,
                    "dtype": dtype,
                    "where": where,
                    "elements": n,
                    "bytes": (3 + 2 * len(moments)) * w.nbytes,  # all are read, all but g written
                    "arrays": (2 + len(moments)) * w.nbytes,
                },
                {
                    "dnncore": _bind(kernels.optimizer_update, name, w, g, states[0], 10, lr=1e-9),
                    "numpy": _bind(reference.optimizer_update, name, w, g, states[1], 10, lr=1e-9),
                },
            )


def others(n: int) -> Iterator[Case]:
    """Yield what is left: the shuffle and the check for finite numbers."""
    rng = np.random.default_rng(0)
    order, x = np.empty(n, np.int64), rng.standard_normal(n, dtype=np.float32)
    about = {"group": "others", "dtype": "float32", "where": "memory", "elements": n}
    yield (
        {**about, "kernel": "shuffle", "bytes": order.nbytes},
        {
            "dnncore": lambda: kernels.shuffle(n, 1, out=order),
            "numpy": lambda: rng.permutation(n),
        },
    )
    yield (
        {**about, "kernel": "all_finite", "bytes": x.nbytes},
        {"dnncore": lambda: kernels.all_finite(x), "numpy": lambda: np.isfinite(x).all()},
    )


def _bind(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[[], Any]:
    return lambda: function(*arguments, **named)


def cases(dtype: str, smoke: bool) -> Iterator[Case]:
    if smoke:
        tiny = {"L2": (4, 5)}
        yield from products(dtype, [(3, 4, 5)])
        yield from activations(dtype, tiny)
        yield from losses(dtype, tiny)
        yield from optimizers(dtype, {"L2": 7})
    else:
        yield from products(dtype, SHAPES)
        yield from activations(dtype, SIZES)
        yield from losses(dtype, {"L2": (200, 10), "L3": (1024, 500)})
        yield from optimizers(dtype, PARAMETERS)
    if dtype == "float32":
        yield from others(100 if smoke else 1_000_000)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    content = document("kernels", asked, dtypes=asked.dtypes)
    probe, bandwidths = PeakProbe(), {}
    seconds = 0.0 if asked.smoke else 0.004
    for dtype in asked.dtypes:
        for about, functions in cases(dtype, asked.smoke):
            found = take_turns(functions, 1 if asked.smoke else asked.turns, seconds=seconds)
            row = {**about, **{name: summary(turns) for name, turns in found.items()}}
            best = min(found["dnncore"])
            if "flops" in row:
                row["gflops"] = {name: row["flops"] / min(t) / 1e9 for name, t in found.items()}
                # Whatever clock the processor had at this moment, it was the same for both.
                ceiling = probe.measure(1, dtype, 0.0 if asked.smoke else 0.01)
                ceiling = max(ceiling, content["machine"]["peak_gflops"][dtype]["1"])
                row["ceiling"], row["of_ceiling"] = ceiling, row["gflops"]["dnncore"] / ceiling
            else:
                size, in_place = row.get("arrays", row["bytes"]), "arrays" in row
                if (size, in_place) not in bandwidths:
                    bandwidths[size, in_place] = probe.bandwidth(
                        size, 0.0 if asked.smoke else 0.1, in_place=in_place
                    )
                row["ceiling"] = bandwidths[size, in_place]
                row["of_ceiling"] = row["bytes"] / best / 1e9 / row["ceiling"]
            peers = [min(turns) for name, turns in found.items() if name != "dnncore"]
            row["ratio"] = min(peers) / best
            content["rows"].append(row)
    return content


def render(content: dict[str, Any]) -> str:
    parts = []
    rows = content["rows"]
    for dtype in content["settings"]["dtypes"]:
        body = [
            [
                f"{row['kernel']:6} {' x '.join(map(str, row['shape']))}",
                *(f"{row['gflops'][name]:.0f}" for name in ("dnncore", "blas", "numpy")),
                f"{row['ratio']:.2f}",
                f"{100 * row['of_ceiling']:.0f} %",
            ]
            for row in rows
            if row["dtype"] == dtype and row["group"] == "products"
        ]
        header = [
            f"{dtype}: rows, outputs, inputs",
            "GF/s",
            "BLAS",
            "NumPy",
            "ratio",
            "of FMA peak",
        ]
        parts.append(table(header, body))
        body = [
            [
                f"{row['group']} {row['kernel']}, {row['where']}",
                micro(row["dnncore"]["us"]),
                micro(row["numpy"]["us"]),
                f"{1e3 * row['dnncore']['us'] / row['elements']:.3f}",
                f"{row['ratio']:.1f}",
                f"{100 * row['of_ceiling']:.0f} %",
            ]
            for row in rows
            if row["dtype"] == dtype and row["group"] != "products"
        ]
        header = [f"{dtype}: kernel", "µs", "NumPy", "ns/element", "ratio", "of memory ceiling"]
        parts.append(table(header, body))
    return "\n\n".join(parts)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--dtypes", default="float32,float64", help="comma-separated")
    asked = parser.parse_args()
    asked.dtypes = asked.dtypes.split(",")
    with threadpool_limits(1):
        content = measure(asked)
    print(render(content))
    write(content, asked.json)


if __name__ == "__main__":
    main()
