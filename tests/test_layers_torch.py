"""Networks of every layer against PyTorch, and kernels against their twins in NumPy."""

import json
from pathlib import Path

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref
from dnncore.layers import LAYERS

TORCH = json.loads((Path(__file__).parent / "fixtures" / "torch_layers.json").read_text())


def build(layers):
    return [
        dnn.Residual(build(arguments[0])) if kind == "Residual" else LAYERS[kind](*arguments)
        for kind, *arguments in layers
    ]


@pytest.mark.parametrize("name", TORCH["networks"])
@pytest.mark.parametrize("own_loop", [False, True])
def test_training_as_in_torch(name, own_loop):
    case = {k: v if k == "layers" else np.array(v) for k, v in TORCH["networks"][name].items()}
    net = dnn.Network(3, build(case["layers"]), loss="mse", dtype="float64")
    net.params[:] = case["start"]
    x, y, weight, size = case["x"], case["y"], case["weight"], TORCH["batch"]
    adam, losses = dnn.Adam(0.05, l2=TORCH["decay"]), []
    for _ in range(TORCH["epochs"]):
        for first in range(0, len(x), size):
            rows = slice(first, first + size)
            if own_loop:
                error, w = net.forward(x[rows]) - y[rows], weight[rows] / weight[rows].sum()
                losses.append((w * np.square(error).mean(axis=1)).sum())
                net.backward(2 / y.shape[1] * error * w[:, np.newaxis])
                net.step(adam)
            else:
                losses.append(net.train_step(x[rows], y[rows], adam, sample_weight=weight[rows]))
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-9)
    np.testing.assert_allclose(net.params, case["after"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(net.predict(x), case["predicted"], rtol=1e-7, atol=1e-9)
    out = net.forward(x)
    np.testing.assert_allclose(
        net.backward(np.cos(out)), case["input_gradient"], rtol=1e-6, atol=1e-9
    )
    assert not any("running" in name for name, _ in net.named_parameters()) or any(
        "BatchNorm" in repr(layer) for layer in net.layers
    )


# ---------------------------------------------------------------------------------- twins

SHAPES = [(1, 1), (2, 3), (5, 8), (7, 33), (130, 67), (300, 300)]
SEED = 5


def through(layer, x, d):
    """Outputs, gradients by the input and by the layer's own parameters, of one layer alone.

    The dense layer that a network needs is the identity, so that it rounds nothing.
    """
    net = dnn.Network(
        x.shape[1], [layer, dnn.Dense(x.shape[1], use_bias=False)], loss="mse", dtype=x.dtype,
        seed=SEED,
    )  # fmt: skip
    net.weights[0][...] = np.eye(x.shape[1])
    own = {name.split(".")[-1]: view for name, view in net.named_parameters()[:-1]}
    rng = np.random.default_rng(2)
    for name, view in own.items():
        if not name.startswith("running"):
            view[...] = rng.uniform(0.5, 1.5, view.shape)
    out = net._program.forward(x, 0, 2)
    dx = net._program.backward(d, net.grads, 0, 2)
    grads = {p.kind: p.view(net.grads).copy() for p in net._parameters if p.kind in own}
    return out, dx, grads, own


def normalised(x, d, layer, own):
    if isinstance(layer, dnn.BatchNorm):
        y, factor, *_ = ref.batch_norm(x, layer.eps)
    else:
        y, factor = ref.layer_norm(x, layer.eps, centred=isinstance(layer, dnn.LayerNorm))
    gamma, beta = own.get("gamma", x.dtype.type(1)), own.get("beta", x.dtype.type(0))
    dx = ref.norm_backward(
        d * gamma, y, factor, 0 if isinstance(layer, dnn.BatchNorm) else 1,
        not isinstance(layer, dnn.RMSNorm),
    )  # fmt: skip
    return y * gamma + beta, dx, {"gamma": (d * y).sum(axis=0), "beta": d.sum(axis=0)}


def activated(x, d, layer, own):
    if isinstance(layer, dnn.PReLU):
        value, by_x, by_own = ref.prelu(x, own["alpha"])
        return value, d * by_x, {"alpha": (d * by_own).sum(axis=0)}
    f = ref.activation_forward(layer.activation, x)
    slope = ref.activation_backward(layer.activation, np.ones_like(x), x, f)
    if isinstance(layer, dnn.Activation):
        return f, d * slope, {}
    value, by_x, by_own = ref.blend(x, f, slope, own["blend"])
    return value, d * by_x, {"blend": (d * by_own).sum(axis=0)}


def disturbed(x, d, layer, own):
    key = ref.noise_key(SEED, 0, 0)
    if isinstance(layer, dnn.AlphaDropout):
        value, by_x = ref.alpha_dropout(x, layer.rate, key)
        return value, d * by_x, {}
    if isinstance(layer, dnn.GaussianNoise):
        return ref.gaussian_noise(x, layer.stddev, key), d, {}
    return ref.dropout(x, layer.rate, key), ref.dropout(d, layer.rate, key), {}


CASES = [
    (dnn.LayerNorm(), normalised),
    (dnn.LayerNorm(eps=0.1, scale=False), normalised),
    (dnn.LayerNorm(center=False), normalised),
    (dnn.RMSNorm(), normalised),
    (dnn.RMSNorm(eps=0.5, scale=False), normalised),
    (dnn.BatchNorm(eps=0.1), normalised),
    (dnn.BatchNorm(scale=False), normalised),
    (dnn.BatchNorm(center=False, scale=False), normalised),
    (dnn.PReLU(), activated),
    (dnn.Activation("tanh"), activated),
    (dnn.Activation("silu"), activated),
    (dnn.Blend("tanh"), activated),
    (dnn.Blend("mish"), activated),
    (dnn.Dropout(0.3), disturbed),
    (dnn.AlphaDropout(0.3), disturbed),
    (dnn.GaussianNoise(0.7), disturbed),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("layer", "twin"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)))
def test_twins(layer, twin, shape, dtype):
    if isinstance(layer, dnn.BatchNorm) and shape[0] == 1:
        shape = (2, *shape[1:])
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    d = rng.standard_normal(shape).astype(dtype)
    x.flags.writeable = d.flags.writeable = False
    out, dx, grads, own = through(layer, x, d)
    expected, expected_dx, expected_grads = twin(x, d, layer, own)
    # A row of two columns, or a batch of two rows, may nearly cancel in the gradient by x.
    tolerance = 3e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(out, expected, rtol=tolerance / 20, atol=tolerance / 20)
    np.testing.assert_allclose(dx, expected_dx, rtol=tolerance, atol=tolerance)
    for kind, found in grads.items():
        if kind in expected_grads:
            np.testing.assert_allclose(
                found, expected_grads[kind], rtol=tolerance, atol=tolerance * len(x) ** 0.5
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_the_twins_to_the_last_bits(dtype):
    x, d = np.zeros((500, 100), dtype), np.zeros((500, 100), dtype)
    out = through(dnn.GaussianNoise(1.0), x, d)[0]
    expected = ref.gaussian_noise(x, 1.0, ref.noise_key(SEED, 0, 0))
    assert np.abs(out - expected).max() < 8 * np.finfo(dtype).eps
    assert (through(dnn.Dropout(0.3), x + 1, d)[0] == ref.dropout(x + 1, 0.3, ref.noise_key(
        SEED, 0, 0))).all()  # fmt: skip


def test_noise_has_the_moments_it_should():
    x, d = np.zeros((2000, 500)), np.ones((2000, 500))
    z = through(dnn.GaussianNoise(1.0), x, d)[0].ravel()
    error = 5 / z.size**0.5
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * 2**0.5
    assert abs((z**3).mean()) < error * 15**0.5
    assert abs((z**4).mean() - 3) < error * 96**0.5
    assert abs((z[1:] * z[:-1]).mean()) < error
    for limit, share in [(1, 0.31731), (2, 0.0455), (3, 0.0027), (4.5, 6.795e-6)]:
        assert abs((np.abs(z) > limit).mean() - share) < 5 * (share / z.size) ** 0.5
    normal = ref.gaussian_noise(x, 1.0, 7)
    for rate in (0.1, 0.5):
        out, kept, _, _ = through(dnn.AlphaDropout(rate), normal, d)
        assert abs((kept == 0).mean() - rate) < error
        assert abs(out.mean()) < 2 * error
        assert abs(out.var() - 1) < 5 * error
