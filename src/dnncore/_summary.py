"""``Network.summary``: the network as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnncore._threads import threads_for
from dnncore.layers import Dense, Dropout

if TYPE_CHECKING:
    from dnncore.network import Network

__all__ = ["fit_bytes", "summary"]


def summary(network: Network, batch_size: int) -> str:
    """Describe layers, parameters, memory and matrix-product paths."""
    program = network._compile()  # one of its own: the network may be in the middle of something
    paths = iter(program.paths(batch_size))
    rows = [("layer", "output", "parameters", "product")]
    for i, layer in enumerate(network.layers):
        n = sum(p.size for p in network._parameters if p.layer == i)
        if isinstance(layer, Dense):
            name, path = f"Dense {layer.activation}", str(next(paths))
        else:
            rate = f" {layer.rate:g}" if isinstance(layer, Dropout) else ""
            name, path = type(layer).__name__ + rate, ""
        rows.append((name, str(network._widths[i + 1]), f"{n:,}", path))
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    lines = [f"Network: {network.n_in} inputs, loss {network.loss.name}, {network.dtype.name}"]
    for row in rows:
        lines.append(
            f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        )
    size = network.dtype.itemsize
    lines.append(
        f"{network.n_params:,} parameters, {_mib(network.n_params * size)}; training with Adam "
        f"and batches of {batch_size}: {_mib(fit_bytes(network, batch_size))}"
    )
    return "\n".join(lines)


def fit_bytes(network: Network, batch_size: int) -> int:
    """Bytes that a network takes while it trains with Adam, data left out."""
    program = network._compile()
    threads = threads_for(None, 3.0 * batch_size * program.work_per_row)
    # Parameters, two moments, and the last finite parameters.
    kept = 4 * network.n_params * network.dtype.itemsize
    return kept + program.workspace_bytes(batch_size, threads)


def _mib(n: float) -> str:
    return f"{n / 2**20:.1f} MiB" if n >= 2**20 else f"{n / 2**10:.1f} KiB"
