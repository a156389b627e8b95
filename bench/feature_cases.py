"""What ``features.py`` measures: trainings without and with a feature, and its arithmetic."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

import dnncore as dnn
from dnncore import kernels, losses, metrics, schedules

EPOCHS = 4  # by which a call of ``fit`` is longer than another, which has one
LOSSES = {
    "mae": "mae",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "quantile": losses.Quantile(0.3),
    "quantiles": losses.Quantile([0.1, 0.5, 0.9, 0.99]),
    "poisson": "poisson",
    "gamma": "gamma",
    "tweedie": losses.Tweedie(1.5),
    "binary_cross_entropy": "binary_cross_entropy",
    "softmax_cross_entropy": "softmax_cross_entropy",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "binary_focal": losses.BinaryFocal(2.0),
    "softmax_focal": losses.SoftmaxFocal(2.0),
}


@dataclass
class Train:
    """A training: network, data, and options of ``fit``."""

    layers: list[Any]
    x: Any
    y: Any
    batch: int
    loss: Any = "mse"
    fit: dict[str, Any] = field(default_factory=dict)
    epochs: int = EPOCHS
    network: Any = None

    def __post_init__(self) -> None:
        self.network = dnn.Network(self.x.shape[1], self.layers, loss=self.loss, seed=0)

    @property
    def steps(self) -> int:
        return -(-self.x.shape[0] // self.batch)

    def __call__(self, epochs: int | None = None) -> None:
        epochs = 1 + self.epochs if epochs is None else epochs
        given = {"optimizer": dnn.SGD(1e-6), "verbose": False, "n_threads": 1, **self.fit}
        if callable(given.get("callbacks")):  # that can be used for one training only
            given["callbacks"] = given["callbacks"]()
        self.network.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, **given)

    def start(self) -> None:
        """Do what ``fit`` does once, such as to check the data, and an epoch."""
        self(epochs=1)


@dataclass
class Case:
    """A feature.

    Parameters
    ----------
    group, name : str
        What it is.
    without, with_ : Train
        The two trainings; without ``without`` the whole step is held to ``alone``.
    alone : callable
        The feature's arithmetic.
    instead : callable, optional
        The arithmetic whose place it takes.
    around : callable, optional
        What ``alone`` cannot help doing beside the arithmetic; its time is taken off.
    per : int
        Steps that one call of ``alone`` does the arithmetic of.
    """

    group: str
    name: str
    without: Train | None
    with_: Train
    alone: Callable[[], Any]
    instead: Callable[[], Any] | None = None
    around: Callable[[], Any] | None = None
    per: int = 1


def cases(smoke: bool) -> Iterator[Case]:
    yield from whole_steps(*((8, 16, 4) if smoke else (128, 784, 256)))
    yield from activations(*((8, 4, 16) if smoke else (256, 4, 512)))
    yield from layers(*((8, 4, 16) if smoke else (256, 4, 512)))
    for where, width in ({"L2": 4} if smoke else {"L2": 256, "L3": 512}).items():
        yield from optimizers(where, 8, width)
        yield from updates(where, 8, width)
    yield from loss_functions(*((8, 4, 4) if smoke else (512, 4, 512)))
    yield from per_epoch(*((32, 8, 8) if smoke else (2048, 256, 1024)))


def activations(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield activations and dropout behind a wide layer, whose products are small."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    y = rng.standard_normal((8 * rows, 1), dtype=np.float32)
    z = rng.standard_normal((rows, width), dtype=np.float32)
    da, out = rng.standard_normal(z.shape, dtype=np.float32), np.empty_like(z)

    def train(*layers: Any) -> Train:
        return Train([*layers, dnn.Dense(1)], x, y, rows)

    for name in kernels.ACTIVATIONS:
        if name in ("identity", "softmax"):
            continue
        a = kernels.activation_forward(name, z)

        def alone(name: str = name, a: Any = a) -> None:
            kernels.activation_forward(name, z, out=a)
            kernels.activation_backward(name, da, z, a, out=out)

        without, with_ = train(dnn.Dense(width)), train(dnn.Dense(width, name))
        yield Case("activation", name, without, with_, alone)


def layers(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield layers behind a wide one, whose products are small; forward and backward."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    y = rng.standard_normal((8 * rows, 1), dtype=np.float32)
    z, d = rng.standard_normal((2, rows, width), dtype=np.float32)
    out, kept, other = np.empty((3, rows, width), np.float32)
    a, b = np.ones((2, width), np.float32)

    def by_row(centred: bool) -> Callable[[], None]:
        def alone() -> None:
            _, _, factor = kernels.layer_norm(z, a, b, centred=centred, out=out, kept_out=kept)
            kernels.layer_norm_backward(d, kept, factor, a, centred=centred, out=out)
            kernels.column_dots(d, kept)
            if centred:
                kernels.column_sums(d)

        return alone

    def batch_norm() -> None:
        mean, variance = kernels.batch_moments(z)
        kernels.batch_norm(z, mean, variance, a, b, out=out, kept_out=kept)
        kernels.batch_norm_backward(d, kept, variance, a, out=out)

    def prelu() -> None:
        kernels.prelu(z, a, out=out)
        np.minimum(z, 0, out=kept)
        kernels.prelu_backward(d, z, a, out=out)
        kernels.column_dots(d, kept)

    def blend() -> None:
        kernels.activation_forward("tanh", z, out=out)
        np.subtract(out, z, out=kept)
        kernels.blend(z, out, a, out=other)
        kernels.activation_backward("tanh", d, None, out, out=other)
        kernels.blend(d, other, a, out=out)
        kernels.column_dots(d, kept)

    def residual() -> None:
        np.add(z, d, out=out)
        np.add(d, z, out=kept)

    def twice(function: Any, *rest: Any) -> Callable[[], None]:
        def alone() -> None:
            function(z, *rest, out=out)
            function(d, *rest, out=out)

        return alone

    def alpha() -> None:
        kernels.alpha_dropout(z, 0.5, 1, out=out)
        kernels.alpha_dropout(d, 0.5, 1, backward=True, out=out)

    def noise() -> None:
        kernels.gaussian_noise(z, 0.5, 1, out=out)

    def train(*layers: Any) -> Train:
        return Train([dnn.Dense(width), *layers, dnn.Dense(1)], x, y, rows)

    relu = dnn.Activation("relu")
    for name, layer, alone in (
        ("LayerNorm", dnn.LayerNorm(), by_row(True)),
        ("RMSNorm", dnn.RMSNorm(), by_row(False)),
        ("BatchNorm", dnn.BatchNorm(), batch_norm),
        ("PReLU", dnn.PReLU(), prelu),
        ("Blend", dnn.Blend("tanh"), blend),
        ("Dropout", dnn.Dropout(0.5), twice(kernels.dropout, 0.5, 1)),
        ("AlphaDropout", dnn.AlphaDropout(0.5), alpha),
        (
            "GaussianNoise",
            dnn.GaussianNoise(0.5),
            lambda: kernels.gaussian_noise(z, 0.5, 1, out=out),
        ),
    ):
        yield Case("layer", name, train(), train(layer), alone)
    yield Case("layer", "Residual", train(relu), train(dnn.Residual([relu])), residual)


def whole_steps(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield steps that are held to all of their arithmetic: a plain network, a sparse input."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    y = np.arange(8 * rows) % 10
    labels, order = y[:rows].astype(np.int32), rng.permutation(8 * rows)[:rows]
    sizes = [n_in, width, width, 10]
    shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    w = [rng.standard_normal(shape, dtype=np.float32) / 30 for shape in shapes]
    b = [np.zeros(n, np.float32) for n in sizes[1:]]
    flat = np.zeros(sum(p.size for p in w + b), np.float32)
    names = ["relu", "relu", "identity"]

    def plain() -> None:
        a = [x.take(order, axis=0)]
        for i in range(3):
            a.append(kernels.linear_forward(a[i], w[i], b[i], names[i])[0])
        d = kernels.loss("softmax_cross_entropy", a[3], labels)[1]
        for i in (2, 1, 0):
            d = kernels.linear_backward(d, a[i], w[i], None, a[i + 1], names[i], need_dx=i > 0)[0]
        kernels.optimizer_update("sgd", flat, flat.copy(), {}, 1, lr=1e-6)

    hidden = [dnn.Dense(n, "relu") for n in sizes[1:-1]]
    given = Train([*hidden, dnn.Dense(10)], x, y, rows, "softmax_cross_entropy")
    yield Case("whole step", "plain network", None, given, plain)

    columns, n_out = 25 * n_in, width // 2
    shape = (8 * rows, columns)
    sparse = scipy.sparse.random_array(shape, density=0.01, rng=rng, dtype=np.float32, format="csr")
    sparse.sort_indices()
    target = rng.standard_normal((8 * rows, n_out), dtype=np.float32)
    part = sparse[:rows]
    csr = part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data
    wide, gradient = np.zeros((2, columns, n_out), np.float32)
    z = np.empty((rows, n_out), np.float32)

    def first_layer() -> None:
        kernels.sparse_forward(*csr, wide, out=z)
        kernels.loss("mse", z, target[:rows], grad_out=z)
        kernels.sparse_gradient(*csr, z, columns, out=gradient)
        kernels.optimizer_update("sgd", wide, gradient, {}, 1, lr=1e-6)

    given = Train([dnn.Dense(n_out)], sparse, target, rows, "mse")
    yield Case("whole step", "sparse first layer", None, given, first_layer)


def optimizers(where: str, rows: int, width: int) -> Iterator[Case]:
    """Yield optimizers on many parameters, with few rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16 * rows, width), dtype=np.float32)

    def train(optimizer: Any) -> Train:
        return Train([dnn.Dense(width)], x, x, rows, fit={"optimizer": optimizer})

    n = width * width + width
    w, g = (rng.standard_normal(n, dtype=np.float32) for _ in range(2))

    def update(kernel: str, **more: Any) -> Callable[[], None]:
        state = {key: np.zeros(n, np.float32) for key in kernels.OPTIMIZERS[kernel]}
        return lambda: kernels.optimizer_update(kernel, w, g, state, 10, lr=1e-9, **more)

    for name, optimizer in {
        "momentum": dnn.SGD(1e-6, momentum=0.9),
        "nesterov": dnn.SGD(1e-6, momentum=0.9, nesterov=True),
        **{
            kind.__name__: kind(1e-6)
            for kind in (dnn.RMSprop, dnn.Adam, dnn.AdamW, dnn.Nadam, dnn.RAdam, dnn.Adagrad,
                         dnn.Adadelta, dnn.Lion)
        },
        "SGD with l2": dnn.SGD(1e-6, l2=1e-3),
    }.items():  # fmt: skip
        more = {"l2": 1e-3} if name == "SGD with l2" else {}
        yield Case(
            f"optimizer, {where}", name, train(dnn.SGD(1e-6)), train(optimizer),
            update(optimizer.kernel, **more), update("sgd"),
        )  # fmt: skip


def updates(where: str, rows: int, width: int) -> Iterator[Case]:
    """Yield what happens to gradients before, and to parameters after, an update.

    What needs the whole gradient cannot update a weight while its gradient is still in a
    register, so the update counts as part of it, and takes the place of the plain one.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16 * rows, width), dtype=np.float32)
    matrix = rng.standard_normal((width, width), dtype=np.float32)
    w, g, out = rng.standard_normal((3, width * width + width), dtype=np.float32)

    def train(optimizer: Any = None, layer: Any = None, **fit: Any) -> Train:
        fit["optimizer"] = optimizer or dnn.SGD(1e-6)
        return Train([layer or dnn.Dense(width)], x, x, rows, fit=fit)

    def update(gradient: Any = g) -> None:
        kernels.optimizer_update("sgd", w, gradient, {}, 1, lr=1e-9)

    def shaped(**how: float) -> Callable[[], None]:
        def alone() -> None:
            kernels.shape_gradient(g, w, out=out, **how)
            update(out)

        return alone

    def by_norm() -> None:
        kernels.sum_squares(g)
        kernels.shape_gradient(g, w, scale=0.5, out=out)
        update(out)

    def added() -> None:
        kernels.accumulate(out, g)
        update(out)

    group = f"update, {where}"
    for name, with_, alone in (
        ("clip_norm", train(dnn.SGD(1e-6, clip_norm=1e-3)), by_norm),
        ("clip_value", train(dnn.SGD(1e-6, clip_value=1e-3)), shaped(limit=1e-3)),
        ("l1 of a layer", train(layer=dnn.Dense(width, l1=1e-3)), shaped(l1=1e-3)),
        ("l2 of a layer", train(layer=dnn.Dense(width, l2=1e-3)), update),
        ("learning_rate_factor", train(layer=dnn.Dense(width, learning_rate_factor=0.5)), update),
    ):
        yield Case(group, name, train(), with_, alone, update)
    yield Case(group, "accumulation of 2", train(), train(accumulate=2), added, update, per=2)
    limited = dnn.Dense(width, max_norm=1.0)
    yield Case(
        group, "max_norm", train(), train(layer=limited),
        lambda: kernels.limit_columns(matrix, 1e6),
    )  # fmt: skip
    yield Case(
        group, "EMA", train(), train(averaging=dnn.EMA(0.99)),
        lambda: kernels.move_towards(out, w, 0.01),
    )  # fmt: skip
    # In epochs of one step: a share of a step would be lost in what two trainings differ by.
    few = Train([dnn.Dense(width)], x[:rows], x[:rows], rows, epochs=16 * EPOCHS)
    averaged = replace(few, fit={"averaging": dnn.SWA(0.0)})
    yield Case(group, "SWA, each epoch", few, averaged, lambda: kernels.move_towards(out, w, 0.01))


def loss_functions(rows: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield losses of many outputs, label smoothing and sample weights."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8 * rows, n_in), dtype=np.float32)
    values = rng.integers(0, 2, (8 * rows, width)).astype(np.float32)
    labels = np.arange(8 * rows) % width
    z = rng.standard_normal((rows, width), dtype=np.float32)
    grad = np.empty_like(z)
    weight = rng.uniform(0.5, 1.5, 8 * rows).astype(np.float32)

    def train(loss: Any, y: Any, **fit: Any) -> Train:
        return Train([dnn.Dense(width)], x, y, rows, loss, fit)

    def kernel(loss: str, y: Any, weighted: bool = False, **more: Any) -> Callable[[], Any]:
        target = y[:rows].astype(np.int32) if y.ndim == 1 else y[:rows]
        sample = weight[:rows] if weighted else None
        return lambda: kernels.loss(loss, z, target, sample, grad_out=grad, **more)

    mse = kernel("mse", values)
    for name, loss in LOSSES.items():
        y = labels if name.startswith("softmax") else values
        if name in ("gamma", "tweedie"):
            y = values + 1
        more = {"parameter": loss.parameters} if isinstance(loss, losses.Loss) else {}
        alone = kernel("quantile" if name == "quantiles" else name, y, **more)
        seen = y[:, : width // 4] if name == "quantiles" else y  # four outputs for each
        yield Case("loss", name, train("mse", values), train(loss, seen), alone, mse)
    plain = "softmax_cross_entropy"
    yield Case(
        "loss", "label smoothing", train(plain, labels),
        train(losses.SoftmaxCrossEntropy(0.1), labels), kernel(plain, labels, parameter=0.1),
        kernel(plain, labels),
    )  # fmt: skip
    for name, y in ((plain, labels), ("mse", values)):
        yield Case(
            "sample weights", name, train(name, y), train(name, y, sample_weight=weight),
            kernel(name, y, weighted=True), kernel(name, y),
        )  # fmt: skip
    yield Case(
        "class weights", plain, train(plain, labels), train(plain, labels, class_weight="balanced"),
        kernel(plain, labels, weighted=True), kernel(plain, labels),
    )  # fmt: skip


def per_epoch(n: int, n_in: int, width: int) -> Iterator[Case]:
    """Yield what happens once an epoch or step, in Python: metrics, callbacks, schedules."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, n_in), dtype=np.float32)
    y = rng.integers(0, 10, n)
    batch = max(1, n // 16)

    def train(**fit: Any) -> Train:
        return Train(
            [dnn.Dense(width, "relu"), dnn.Dense(10)], x, y, batch, "softmax_cross_entropy", fit
        )

    twin = train()
    twin()
    proba = np.empty((n, 10), np.float32)
    target = y.astype(np.int32)

    def validated(metric: Callable[..., Any] | None, probabilities: bool = False) -> None:
        found = twin.network.predict_proba(x)
        kernels.loss("softmax_cross_entropy", found, target, grad_out=proba)
        if metric is not None:
            metric(y, found if probabilities else found.argmax(axis=1))

    steps = twin.steps
    data = {"validation_data": (x, y)}
    for name, asked, alone in (
        ("validation loss", [], lambda: validated(None)),
        ("validation accuracy", ["accuracy"], lambda: validated(metrics.accuracy)),
        ("validation F1", ["f1"], lambda: validated(metrics.f1)),
        ("validation log loss", ["log_loss"], lambda: validated(metrics.log_loss, True)),
    ):
        yield Case("each epoch", name, train(), train(metrics=asked, **data), alone, per=steps)
    best = twin.network.params.copy()

    def keep() -> None:
        best[...] = twin.network.params

    yield Case(
        "python", "early stopping, best kept", train(**data, metrics=["accuracy"]),
        train(**data, metrics=["accuracy"], callbacks=[dnn.EarlyStopping(patience=9)]),
        keep, per=steps,
    )  # fmt: skip
    nothing = dnn.LambdaCallback(on_epoch_end=lambda net, epoch, logs: None)
    plateau = dnn.ReduceLROnPlateau("loss", patience=10**6)
    log = dnn.CSVLogger(folder / "log.csv")
    statistics = dnn.LayerStatistics(x[:256], y[:256])
    statistics.on_train_begin(twin.network, 1)
    for name, callback, alone in (
        ("a callback each epoch", nothing, lambda: None),
        ("reduced on plateau", plateau, lambda: None),
        ("log as CSV", log, lambda: None),
        (
            "statistics of layers", dnn.LayerStatistics(x[:256], y[:256]),
            lambda: statistics.on_epoch_end(twin.network, 0, {}),
        ),
        (
            "best model in a file", dnn.ModelCheckpoint(folder / "best", "time", mode="max"),
            lambda: twin.network.save(folder / "alone"),
        ),
    ):  # fmt: skip
        yield Case("python", name, train(), train(callbacks=[callback]), alone, per=steps)
    for name in ("step", "epoch"):
        hook = "on_batch_end" if name == "step" else "on_epoch_begin"
        own = dnn.LambdaCallback(**{hook: lambda *given: None})
        yield Case("python", f"a hook each {name}", train(), train(callbacks=[own]), lambda: None)
    yield Case(
        "python", "checkpoint each epoch", train(),
        train(callbacks=lambda: [dnn.Checkpoint(tempfile.mkdtemp(dir=folder))]),
        lambda: dnn.save_checkpoint(twin.network, folder / "state"), per=steps,
    )  # fmt: skip
    for name, rate in {
        "step": schedules.Step(1e-6, 10**6),
        "exponential": schedules.Exponential(1e-6, 0.5, 10**6),
        "polynomial": schedules.Polynomial(1e-6, 10**6),
        "cosine": schedules.Cosine(1e-6, 10**6),
        "one-cycle": schedules.OneCycle(1e-6, 10**6),
    }.items():
        yield Case(
            "python", f"{name} schedule", train(), train(optimizer=dnn.SGD(rate)),
            lambda rate=rate: rate.values(0, steps), per=steps,
        )  # fmt: skip
