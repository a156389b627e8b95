"""Whatever a caller passes: a right result, or an error in the caller's words and no change."""

import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import dnncore as dnn
from dnncore import reference as ref

N_IN = 3
MODELS = {  # name: loss and number of outputs
    "classes": ("softmax_cross_entropy", 3),
    "binary": ("binary_cross_entropy", 1),
    "labels": ("binary_cross_entropy", 2),
    "value": ("mse", 1),
    "values": ("huber", 2),
    "counts": ("poisson", 1),
}
ALLOWED = (ValueError, TypeError, MemoryError, dnn.DivergenceError)


def make(model, dtype="float32"):
    loss, n_out = MODELS[model]
    return dnn.Network(N_IN, [dnn.Dense(4, "tanh"), dnn.Dense(n_out)], loss=loss, dtype=dtype)


def good(model, rows=6):
    rng = np.random.default_rng(0)
    loss, n_out = MODELS[model]
    X = rng.standard_normal((rows, N_IN))
    if model == "classes":
        return X, np.arange(rows) % 3
    if model == "binary":
        return X, np.arange(rows) % 2
    if model == "labels":
        return X, rng.integers(2, size=(rows, n_out))
    return X, np.abs(rng.standard_normal((rows, n_out)))


# Arrays of every kind

DTYPES = st.one_of(
    hnp.floating_dtypes(endianness="?"),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.boolean_dtypes(),
    st.sampled_from([np.dtype(n) for n in ("O", "U3", "S3", "c8", "M8[D]", "m8[s]", "longdouble")]),
)
SPECIAL = [0.0, -1.0, 1.0, 2.0, 0.5, 1e-40, 1e38, -3e38, 1e300, np.nan, np.inf, -np.inf]


def shapes(rows, columns):
    usual = rows.map(lambda rows: (rows, columns))
    return st.one_of(usual, usual, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


@st.composite
def arrays(draw, columns=N_IN, rows=st.integers(1, 7)):  # noqa: B008 - strategies do not change
    """An array of any dtype, values, layout, order, alignment and protection."""
    shape, dtype = draw(shapes(rows, columns)), draw(DTYPES)
    size = int(np.prod(shape))
    numbers = st.floats(-2, 2, width=16) if draw(st.booleans()) else st.sampled_from(SPECIAL)
    values = np.array(draw(st.lists(numbers, min_size=size, max_size=size)), float)
    if dtype.kind in "USMmO":
        texts = st.sampled_from(["a", "b", "1", "", None] if dtype.kind == "O" else ["1", "2"])
        if dtype.kind == "O" and draw(st.booleans()):
            array = values.astype(object)
        else:
            array = np.array(draw(st.lists(texts, min_size=size, max_size=size)), object)
            array = array.astype("i8").astype(dtype) if dtype.kind in "Mm" else array.astype(dtype)
    else:
        if dtype.kind in "iub":
            values = np.nan_to_num(values, nan=3, posinf=100, neginf=0).clip(0, 100)
        with np.errstate(all="ignore"):
            array = values.astype(dtype)
    array = array.reshape(shape)
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "broadcast", "misaligned"]))
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "strided" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "reversed" and array.ndim:
        array = array[::-1]
    elif layout == "broadcast" and array.ndim and len(array):
        array = np.broadcast_to(array[0], array.shape)
    elif layout == "misaligned" and dtype.kind != "O":
        memory = np.zeros(array.nbytes + 1, np.uint8)
        moved = memory[1 : 1 + array.nbytes].view(array.dtype).reshape(array.shape)
        moved[...] = array
        array = moved
    if draw(st.booleans()) and array.flags.writeable:
        array.flags.writeable = False
    return draw(st.sampled_from([array, array, array, array.tolist()]))


def expected_output(net, X):
    """Outputs by the twin, from X as it was meant."""
    layers = [
        (w.astype(float), b.astype(float), layer.activation)
        for w, b, layer in zip(net.weights, net.biases, net.layers, strict=True)
    ]
    with np.errstate(under="ignore"):
        X = np.asarray(X, net.dtype).astype(float)
    return ref.forward(layers, X)


def call(function, *arguments, **options):
    """Call; an error that may come becomes None, or itself if training had begun."""
    try:
        return function(*arguments, **options)
    except ALLOWED as error:
        event(type(error).__name__)
        assert len(str(error)) > 20  # it says something
        return error if isinstance(error, dnn.DivergenceError) else None


@given(X=arrays(), dtype=st.sampled_from(["float32", "float64"]))
@example(X=np.array([[0, 0, 1e-40]]), dtype="float32")  # subnormal once narrowed
@settings(max_examples=400)
def test_any_input(X, dtype):
    net = make("value", dtype)
    with np.errstate(all="raise"):  # no accident on the way
        for function in (net.forward, net.predict):
            out = call(function, X)
            if out is None:
                continue
            event("result")
            expected = expected_output(net, X).reshape(out.shape)
            tolerance = 1e-4 if dtype == "float32" else 1e-9
            np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@given(
    model=st.sampled_from(sorted(MODELS)),
    data=st.data(),
    dtype=st.sampled_from(["float32", "float64"]),
    entry=st.sampled_from(["fit", "train_step", "evaluate"]),
)
@settings(max_examples=500)
def test_any_targets(model, data, dtype, entry):
    net = make(model, dtype)
    y = data.draw(arrays(MODELS[model][1]) | arrays(1).map(lambda a: np.ravel(np.asarray(a))))
    rows = len(y) if np.ndim(y) else 3
    X = good(model, max(rows, 1))[0]
    before = net.params.copy()
    options = {"epochs": 1, "batch_size": 2} if entry == "fit" else {}
    result = call(getattr(net, entry), X, y, **options)
    assert np.isfinite(net.params).all()
    if result is None or entry == "evaluate":
        np.testing.assert_array_equal(net.params, before)
        assert entry != "evaluate" or net.classes_ is None
    elif not isinstance(result, Exception):
        event("result")
        predicted = net.predict(X)
        assert len(predicted) == len(X)
        if net.classes_ is not None:
            assert set(predicted.tolist()) <= set(net.classes_.tolist())
            assert set(np.asarray(y).ravel().tolist()) <= set(net.classes_.tolist())


@given(weight=arrays(1).map(lambda a: np.ravel(np.asarray(a))), entry=st.booleans())
@settings(max_examples=200)
def test_any_weights(weight, entry):
    net = make("values")
    X, y = good("values", max(len(weight), 1))
    before = net.params.copy()
    call(net.train_step if entry else net.evaluate, X, y, sample_weight=weight)
    assert np.isfinite(net.params).all()
    w = np.asarray(weight)
    if w.dtype.kind == "f" and (np.isnan(w).any() or (w < 0).any()):
        np.testing.assert_array_equal(net.params, before)


@given(d_out=arrays(2, st.just(4)), scale=st.sampled_from([1.0, 1e30]))
@settings(max_examples=200)
def test_any_gradient(d_out, scale):
    net = make("values")
    X = good("values", 4)[0]
    net.forward(X)
    dX = call(net.backward, d_out)
    before = net.params.copy()
    if dX is None:
        assert not net.grads.any()
    else:
        assert dX.shape == X.shape
        with np.errstate(over="ignore", invalid="ignore"):
            net.grads[:] *= np.float32(scale)
    if not np.isfinite(net.grads).all():
        with pytest.raises(dnn.DivergenceError):
            net.step(dnn.SGD(0.1))
        np.testing.assert_array_equal(net.params, before)
    else:
        call(net.step, dnn.SGD(0.1))
    assert np.isfinite(net.params).all()


NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.sampled_from([None, True, "3", 2 + 0j, (), [3], np.int8(3), np.float32(0.5), np.ones(2)]),
)


@given(st.lists(NUMBERS, min_size=8, max_size=8))
@settings(max_examples=200)
@example([2**31 - 1] * 8)
def test_any_options(values):
    a, b, c, d, e, f, g, h = values
    X, y = good("values", 8)
    assume(not (isinstance(a, int) and a > 3))  # epochs that never end are the caller's wish
    for chosen in (
        lambda: dnn.SGD(b, momentum=c, l2=d, nesterov=e),
        lambda: dnn.AdamW(b, beta1=c, beta2=d, eps=e, weight_decay=f),
        lambda: "adam",
        lambda: f,
    ):
        net = make("values")
        before = net.params.copy()
        optimizer = call(chosen)
        result = call(
            net.fit, X, y, epochs=a, batch_size=g, optimizer=optimizer,
            validation_split=h, n_threads=g,
        )  # fmt: skip
        assert np.isfinite(net.params).all()
        if result is None and net._position.epoch == 0:
            assert net._position.step == 0
            np.testing.assert_array_equal(net.params, before)


# The words

X6, Y6 = good("classes")
CALLS = {  # what is wrong: (call, error, message)
    "columns": (lambda n: n.fit(X6[:, :2], Y6), ValueError, "X must have 3 columns; got"),
    "one row": (lambda n: n.predict(X6[0]), ValueError, r"X\.reshape\(1, -1\) for one row"),
    "images": (
        lambda n: n.predict(X6[None]),
        ValueError,
        r"Flatten it: X\.reshape\(len\(X\), -1\)",
    ),
    "no rows": (lambda n: n.predict(X6[:0]), ValueError, "at least 1 row"),
    "rows": (lambda n: n.fit(X6, Y6[:5]), ValueError, "same number of rows; got X: 6, y: 5"),
    "weights": (
        lambda n: n.fit(X6, Y6, sample_weight=np.ones(5)),
        ValueError,
        "sample_weight must have 6 elements; got 5",
    ),
    "negative weight": (
        lambda n: n.fit(X6, Y6, sample_weight=-np.ones(6)),
        ValueError,
        "sample_weight must be at least 0 and not all zero",
    ),
    "zero weights": (
        lambda n: n.train_step(X6, Y6, sample_weight=np.zeros(6)),
        ValueError,
        "not all zero",
    ),
    "too many classes": (
        lambda n: n.fit(X6, np.arange(6)),
        ValueError,
        "6 classes .*for 3",
    ),
    "epochs": (lambda n: n.fit(X6, Y6, epochs=-1), ValueError, "epochs must be at least 0; got -1"),
    "epochs, float": (lambda n: n.fit(X6, Y6, epochs=2.0), TypeError, "epochs must be an integer"),
    "batch": (lambda n: n.fit(X6, Y6, batch_size=0), ValueError, "batch_size must be at least 1"),
    "threads": (lambda n: n.fit(X6, Y6, n_threads=0), ValueError, "n_threads must be at least 1"),
    "shuffle": (lambda n: n.fit(X6, Y6, shuffle="no"), TypeError, "shuffle must be True or False"),
    "optimizer": (
        lambda n: n.fit(X6, Y6, optimizer="adm"),
        ValueError,
        "optimizer must be one of 'sgd', .*; got 'adm'",
    ),
    "optimizer class": (
        lambda n: n.fit(X6, Y6, optimizer=dnn.Adam),
        ValueError,
        "optimizer must be one of",
    ),
    "abstract optimizer": (
        lambda n: n.fit(X6, Y6, optimizer=dnn.Optimizer(0.1)),
        ValueError,
        "optimizer must be one of",
    ),
    "validation": (
        lambda n: n.fit(X6, Y6, validation_data=X6),
        TypeError,
        r"validation_data must be a tuple \(X, y\) or \(X, y, sample_weight\)",
    ),
    "validation of three": (
        lambda n: n.fit(X6, Y6, validation_data=(X6, Y6, None, None)),
        TypeError,
        "validation_data must be a tuple",
    ),
    "validation columns": (
        lambda n: n.fit(X6, Y6, validation_data=(X6[:, :1], Y6)),
        ValueError,
        "validation_data: X must have 3 columns",
    ),
    "validation labels": (
        lambda n: n.fit(X6, Y6, validation_data=(X6, Y6 + 1)),
        ValueError,
        "validation_data: y contains labels outside the classes: 3; the network knows 0, 1, 2",
    ),
    "validation twice": (
        lambda n: n.fit(X6, Y6, validation_data=(X6, Y6), validation_split=0.5),
        ValueError,
        "validation_data or validation_split, not both",
    ),
    "callback": (
        lambda n: n.fit(X6, Y6, callbacks=dnn.ProgressBar()),
        TypeError,
        "callbacks must be a list of callbacks",
    ),
    "callback class": (
        lambda n: n.fit(X6, Y6, callbacks=[dnn.ProgressBar]),
        TypeError,
        r"callbacks\[0\] must be an object of a class derived from dnncore\.Callback",
    ),
    "gradient rows": (
        lambda n: (n.forward(X6), n.backward(np.ones((5, 3)))),
        ValueError,
        "d_out must have the 6 rows of the last forward; got 5",
    ),
    "gradient columns": (
        lambda n: (n.forward(X6), n.backward(np.ones((6, 2)))),
        ValueError,
        "d_out must have 3 columns",
    ),
    "gradient NaN": (
        lambda n: (n.forward(X6), n.backward(np.full((6, 3), np.nan))),
        ValueError,
        "d_out contains NaN",
    ),
    "no forward": (lambda n: n.backward(np.ones((6, 3))), RuntimeError, "backward needs a forward"),
}


@pytest.mark.parametrize(("call", "error", "message"), CALLS.values(), ids=CALLS)
def test_what_is_wrong_is_said_and_nothing_has_changed(call, error, message):
    net = make("classes")
    params, classes = net.params.copy(), net.classes_
    with pytest.raises(error, match=message):
        call(net)
    np.testing.assert_array_equal(net.params, params)
    assert net.classes_ is classes is None
    net.fit(X6, np.array(["a", "b", "c"])[Y6], epochs=1)  # no classes were learnt on the way


def test_evaluating_before_fit_teaches_nothing():
    net = make("classes")
    assert net.evaluate(X6, ["x", "y", "z"] * 2)["loss"] > 0
    assert net.classes_ is None
    net.fit(X6, ["a", "b", "c"] * 2, epochs=1)
    with pytest.raises(ValueError, match="outside the classes: 'x'"):
        net.evaluate(X6, ["x", "a", "b"] * 2)


def test_shape_of_predictions_is_that_of_the_targets_trained_on():
    X, y = good("value")
    net = make("value")
    for target, shape in [(y[:, 0], (6,)), (y, (6, 1)), (y[:, 0].tolist(), (6,))]:
        net.fit(X, target, epochs=1)
        net.evaluate(X, y)
        net.evaluate(X, y[:, 0])
        assert net.predict(X).shape == shape


def test_backward_is_not_for_an_older_forward():
    net = make("classes")
    net.forward(X6)
    net.train_step(X6, Y6)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        net.backward(np.ones((6, 3)))
