"""The network as an object: what it is made of, its buffers, its copies, its words."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import dnncore as dnn
from dnncore import _kernels
from dnncore import reference as ref

NETWORKS = {
    "classifier": lambda: dnn.Network(5, [dnn.Dense(7, "relu"), dnn.Dense(3)]),
    "binary": lambda: dnn.Network(
        5, [dnn.Dense(7, "tanh"), dnn.Dense(1)], loss="binary_cross_entropy", dtype="float64"
    ),
    "everything": lambda: dnn.Network(
        np.int64(5),
        (
            dnn.Dropout(np.float32(0.25)),
            dnn.Dense(np.int16(7), "selu", weight_initializer="orthogonal"),
            dnn.Dense(6, "gelu", use_bias=np.False_, trainable=False),
            dnn.Dropout(0),
            dnn.Dense(2, "softplus", use_bias=False),
        ),
        loss=dnn.Huber(np.float32(0.5)),
        dtype=np.float64,
        seed=2**63 + 1,
    ),
    "linear": lambda: dnn.Network(1, [dnn.Dense(1)], loss="poisson", seed=np.uint8(3)),
}


def data_for(net, rows=40):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, net.n_in))
    if net.loss.targets == "labels":
        return X, rng.integers(net.n_out, size=rows)
    if net.loss.targets == "binary":
        return X, rng.integers(2, size=rows)
    return X, np.abs(rng.standard_normal((rows, net.n_out)))


@pytest.fixture(params=NETWORKS)
def net(request):
    return NETWORKS[request.param]()


def same(a, b):
    assert a.get_config() == b.get_config()
    np.testing.assert_array_equal(a.params, b.params)
    assert a.params.dtype == b.params.dtype


# Buffers


def test_parameters_are_one_aligned_writable_buffer(net):
    for one in (net, net.copy(), pickle.loads(pickle.dumps(net))):
        for buffer in (one.params, one.grads):
            assert buffer.shape == (one.n_params,)
            assert buffer.flags.c_contiguous and buffer.flags.writeable
            assert buffer.ctypes.data % 64 == 0
            assert buffer.dtype == one.dtype
        names, place = dict(one.named_parameters()), 0
        for view in names.values():  # in order, one after the other, no gaps
            assert view.ctypes.data == one.params.ctypes.data + place
            place += view.nbytes
        assert place == one.params.nbytes
        found = [*one.weights, *one.biases]
        assert sum(view.size for view in found) == one.n_params
        for view in found:
            assert np.shares_memory(view, one.params)
        assert set(names) == {
            f"layers.{i}.{kind}"
            for i, layer in enumerate(one.layers)
            if isinstance(layer, dnn.Dense)
            for kind in (["weight", "bias"] if layer.use_bias else ["weight"])
        }


def test_writing_to_parameters_changes_predictions(net):
    X = data_for(net)[0]
    before = net.predict_proba(X) if net.classes_ is not None else net.forward(X)
    net.params[:] = np.linspace(-1, 1, net.n_params)
    after = net.forward(X)
    assert (after != before).any()
    net.weights[-1][:] = 0
    assert np.ptp(net.forward(X), axis=0).max() == 0  # only the last bias is left
    with pytest.raises(AttributeError):
        net.params = np.zeros(net.n_params)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [(a, "softmax_cross_entropy") for a in _kernels.ACTIVATIONS]
    + [(a, loss) for a in ("relu", "gelu") for loss in _kernels.LOSSES],
)
def test_predictions_are_the_twin_s(activation, loss, dtype):
    layers = [dnn.Dense(9, activation), dnn.Dropout(0.5), dnn.Dense(4, activation), dnn.Dense(3)]
    net = dnn.Network(6, layers, loss=loss, dtype=dtype)
    net.params[:] = np.random.default_rng(0).standard_normal(net.n_params) * 0.5
    X = np.random.default_rng(1).standard_normal((50, 6)).astype(dtype).astype(float)
    names = [activation, activation, "identity"]
    wide = [[a.astype(float) for a in part] for part in (net.weights, net.biases)]
    z = ref.forward(list(zip(*wide, names, strict=True)), X)
    rtol, atol = (1e-12, 1e-12) if dtype == "float64" else (2e-5, 2e-6)
    tolerance = {"rtol": rtol, "atol": atol}
    if loss.startswith("softmax"):
        np.testing.assert_allclose(
            net.predict_proba(X), ref.activation_forward("softmax", z), **tolerance
        )
        np.testing.assert_array_equal(net.predict(X), z.argmax(axis=1))
    elif loss.startswith("binary"):
        np.testing.assert_allclose(
            net.predict_proba(X), ref.activation_forward("sigmoid", z), **tolerance
        )
        np.testing.assert_array_equal(net.predict(X), z > 0)
    elif "hinge" in loss:
        np.testing.assert_array_equal(net.predict(X), z > 0)
    else:
        expected = np.exp(z) if loss in ("poisson", "gamma", "tweedie") else z
        np.testing.assert_allclose(net.predict(X), expected, **tolerance)


def test_probabilities_of_a_single_output():
    net = NETWORKS["binary"]()
    X, y = data_for(net)
    net.fit(X, np.array(["no", "yes"])[y], epochs=1)
    p = net.predict_proba(X)
    assert p.shape == (40, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(net.predict(X), np.where(p[:, 1] > 0.5, "yes", "no"))
    with pytest.raises(ValueError, match="needs a cross-entropy or focal loss; this is mse"):
        dnn.Network(5, [dnn.Dense(1)], loss="mse").predict_proba(X)


# Copies


def trained(net):
    X, y = data_for(net)
    net.fit(X, y, epochs=2, batch_size=16, optimizer="adam")
    net.forward(X)
    return net


@pytest.mark.parametrize(
    "duplicate",
    [
        lambda net: net.copy(),
        copy.copy,
        copy.deepcopy,
        *(
            lambda net, p=p: pickle.loads(pickle.dumps(net, p))
            for p in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_copies_are_equal_independent_and_go_on_alike(net, duplicate):
    X, y = data_for(trained(net))
    other = duplicate(net)
    same(net, other)
    assert not np.shares_memory(net.params, other.params)
    for one in (net, other):  # moments, step, epoch and masks are the same
        one.fit(X, y, epochs=2, batch_size=16, optimizer="adam")
        one.forward(X)
        one.backward(np.ones((40, one.n_out)))
        one.step("adam")
    same(net, other)
    other.fit(X, y, epochs=1)
    assert (other.params != net.params).any()


def test_description_makes_the_same_network_without_its_parameters(net):
    config = trained(net).get_config()
    other = dnn.Network.from_config(config)
    assert other.get_config() == config
    assert other.layers == net.layers and other.loss == net.loss and other.seed == net.seed
    assert not other.params.any()
    np.testing.assert_array_equal(other.initialize().params, net.initialize().params)


def test_saved_network_predicts_the_same(net, tmp_path):
    X = data_for(trained(net))[0]
    net.save(tmp_path / "model.safetensors")
    other = dnn.load(tmp_path / "model.safetensors")
    same(net, other)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_functions_are_described_as_the_default_and_still_copied():
    def ones(rng, n_in, n_out):
        return np.ones((n_in, n_out))

    net = dnn.Network(3, [dnn.Dense(2, weight_initializer=ones)], loss="mse")
    assert net.get_config()["layers"][0]["weight_initializer"] is None
    assert copy.deepcopy(net).layers == net.layers


# Words


def test_repr_makes_the_same_network(net):
    other = eval(repr(net), vars(dnn))
    same(net, other)
    assert other.layers == net.layers and other.loss == net.loss


@pytest.mark.parametrize(
    "description",
    [
        "Dense(5)",
        "Dense(5, 'relu')",
        "Dense(5, use_bias=False)",
        "Dense(5, 'elu', weight_initializer='zeros', use_bias=False, trainable=False)",
        "Dropout(0.25)",
        "SGD(learning_rate=0.1, l2=0.0, momentum=0.9, nesterov=True)",
        "RMSprop(learning_rate=0.001, l2=0.0, rho=0.9, eps=1e-08)",
    ],
)
def test_descriptions_are_calls(description):
    assert repr(eval(description, vars(dnn))) == description


@pytest.mark.parametrize("made", [dnn.Dense(3), dnn.Dropout(), dnn.Adam(), dnn.Huber()])
def test_descriptions_are_frozen(made):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, 1)
    assert hash(made) == hash(copy.copy(made))


def test_summary():
    net = dnn.Network(784, [dnn.Dense(1000, "relu"), dnn.Dropout(0.2), dnn.Dense(10)])
    text = net.summary(64)
    lines = text.splitlines()
    assert "784 inputs" in lines[0] and "softmax_cross_entropy" in lines[0]
    assert lines[2].split()[:4] == ["Dense", "relu", "1000", "785,000"]
    assert lines[3].split()[:3] == ["Dropout", "0.2", "1000"]
    assert lines[4].split()[:4] == ["Dense", "identity", "10", "10,010"]
    assert "795,010 parameters, 3.0 MiB" in lines[5] and "batches of 64" in lines[5]
    for bad in (0, 1.5, "64"):
        with pytest.raises((TypeError, ValueError), match="batch_size"):
            net.summary(bad)


def test_summary_disturbs_nothing():
    net = NETWORKS["everything"]()
    X = data_for(net)[0]
    expected = net.copy()
    d_out = np.ones((40, 2))
    expected.forward(X)
    expected.backward(d_out)
    net.forward(X)
    net.summary(1000)
    net.backward(d_out)
    np.testing.assert_array_equal(net.grads, expected.grads)


@pytest.mark.parametrize("made", [dnn.SGD, dnn.RMSprop, dnn.Adam, dnn.AdamW, dnn.Optimizer])
def test_all_but_the_learning_rate_are_named(made):
    with pytest.raises(TypeError, match="positional"):
        made(0.1, 0.9)
    assert {f.name for f in dataclasses.fields(made) if not f.kw_only} == {"learning_rate"}


# What makes no network


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dnn.Network(0, [dnn.Dense(1)]), ValueError, "n_in must be at least 1; got 0"),
        (lambda: dnn.Network("5", [dnn.Dense(1)]), TypeError, "n_in must be an integer"),
        (lambda: dnn.Network(5, []), ValueError, "at least one Dense layer"),
        (lambda: dnn.Network(5, [dnn.Dropout()]), ValueError, "at least one Dense layer"),
        (lambda: dnn.Network(5, dnn.Dense(1)), TypeError, "layers must be a list of layers"),
        (lambda: dnn.Network(5, [3]), TypeError, r"layers\[0\] must be a layer such as .* got 3"),
        (lambda: dnn.Network(5, [dnn.Dense]), TypeError, r"layers\[0\] must be a layer"),
        (lambda: dnn.Network(5, [dnn.Dense(1)]), ValueError, "at least two outputs"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], loss="MSE"), ValueError, "loss must be one of"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], loss=None), ValueError, "loss must be one of"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], dtype="int8"), ValueError, "dtype must be"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], seed=-1), ValueError, "seed must be at least 0"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], seed=2**64), ValueError, "seed must be at most"),
        (lambda: dnn.Network(5, [dnn.Dense(2)], seed=0.5), TypeError, "seed must be an integer"),
        (
            lambda: dnn.Network(5, [dnn.Dense(2, "softmax")]),
            ValueError,
            r"applies softmax itself\. Write Dense\(2\)",
        ),
        (lambda: dnn.Dense(0), ValueError, "units must be at least 1"),
        (lambda: dnn.Dense(2.0), TypeError, "units must be an integer"),
        (lambda: dnn.Dense(True), TypeError, "units must be an integer"),
        (lambda: dnn.Dense(2, "ReLU"), ValueError, "activation must be one of 'identity'"),
        (lambda: dnn.Dense(2, None), ValueError, "activation must be one of"),
        (lambda: dnn.Dense(2, use_bias=1), TypeError, "use_bias must be True or False"),
        (lambda: dnn.Dense(2, trainable="no"), TypeError, "trainable must be True or False"),
        (lambda: dnn.Dropout(1.0), ValueError, "rate must be less than 1"),
        (lambda: dnn.Dropout(-0.1), ValueError, "rate must be at least 0"),
        (lambda: dnn.Dropout(np.nan), ValueError, "rate must be finite"),
        (lambda: dnn.Huber(0), ValueError, "delta must be greater than 0"),
        (lambda: dnn.Loss("huber", "1"), TypeError, "delta must be a number"),
        (lambda: dnn.Loss("mse", 1.0), ValueError, "loss 'mse' has no parameter; got 1.0"),
        (lambda: dnn.SGD(-1), ValueError, "learning_rate must be at least 0"),
        (lambda: dnn.SGD("1"), TypeError, "learning_rate must be a number"),
        (lambda: dnn.SGD(l2=np.inf), ValueError, "l2 must be finite"),
        (lambda: dnn.SGD(momentum=1), ValueError, "momentum must be less than 1"),
        (lambda: dnn.SGD(nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda: dnn.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov must be True or"),
        (lambda: dnn.RMSprop(rho=1.0), ValueError, "rho must be less than 1"),
        (lambda: dnn.Adam(beta1=-0.1), ValueError, "beta1 must be at least 0"),
        (lambda: dnn.Adam(beta2=1), ValueError, "beta2 must be less than 1"),
        (lambda: dnn.Adam(eps=0), ValueError, "eps must be greater than 0"),
        (lambda: dnn.AdamW(weight_decay=-1), ValueError, "weight_decay must be at least 0"),
    ],
)
def test_what_makes_no_network(make, error, message):
    with pytest.raises(error, match=message):
        make()
