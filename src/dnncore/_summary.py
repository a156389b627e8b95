"""``Network.summary``: the network as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnncore._threads import threads_for, training_work
from dnncore.layers import AlphaDropout, Dense, Dropout, GaussianNoise, Layer
from dnncore.losses import Custom

if TYPE_CHECKING:
    from dnncore._model import Model

__all__ = ["fit_bytes", "summary"]


def summary(network: Model, batch_size: int) -> str:
    """Describe layers, parameters, memory and matrix-product paths."""
    program = network._compile()  # one of its own: the network may be in the middle of something
    paths = iter(program.paths(batch_size))
    rows = [("layer", "output", "parameters", "product")]
    for place in network._layout.places:
        n = sum(p.size for p in place.parameters)
        name = "  " * place.path.count(".layers.") + _name(place.layer)
        path = str(next(paths)) if isinstance(place.layer, Dense) else ""
        rows.append((name, str(place.width), f"{n:,}", path))
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    lines = [f"Network: {network.n_in} inputs, loss {network.loss.name}, {network.dtype.name}"]
    for row in rows:
        lines.append(
            f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        )
    size = network.dtype.itemsize
    measured = sum(p.size for p in network._parameters if p.is_statistic)
    running = f" ({measured:,} of them running statistics)" if measured else ""
    lines.append(
        f"{network.n_params:,} parameters{running}, {_mib(network.n_params * size)}; training "
        f"with Adam and batches of {batch_size}: {_mib(fit_bytes(network, batch_size))}"
    )
    return "\n".join(lines)


def _name(layer: Layer) -> str:
    kind = type(layer).__name__
    if isinstance(layer, Dropout | AlphaDropout):
        return f"{kind} {layer.rate:g}"
    if isinstance(layer, GaussianNoise):
        return f"{kind} {layer.stddev:g}"
    activation = getattr(layer, "activation", None)
    return kind if activation is None else f"{kind} {activation}"


def fit_bytes(network: Model, batch_size: int) -> int:
    """Bytes that a network takes while it trains with Adam, data left out."""
    program = network._compile()
    threads = threads_for(None, training_work(batch_size, program.work_per_row))
    # Parameters, two moments, and the last finite parameters.
    kept = 4 * network.n_params * network.dtype.itemsize
    by_hand = isinstance(network.loss, Custom)
    return kept + program.workspace_bytes(batch_size, threads, by_hand)


def _mib(n: float) -> str:
    return f"{n / 2**20:.1f} MiB" if n >= 2**20 else f"{n / 2**10:.1f} KiB"
