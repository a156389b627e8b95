"""Optimizer kernels against the NumPy twin and PyTorch, and what they refuse."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dnncore import kernels, reference

DTYPES = [np.float32, np.float64]
HYPER = {
    "sgd": [{}, {"l2": 0.1}],
    "momentum": [{}, {"momentum": 0.5, "l2": 0.1}, {"momentum": 0.0}],
    "nesterov": [{}, {"momentum": 0.5, "l2": 0.1}, {"momentum": 0.0}],
    "rmsprop": [{}, {"rho": 0.99, "eps": 1e-3, "l2": 0.1}],
    "adam": [{}, {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "l2": 0.1}, {"beta1": 0.0}],
    "adamw": [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "l2": 0.01, "beta1": 0.8}],
    "nadam": [{}, {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "l2": 0.1}, {"beta1": 0.0}],
    "radam": [{}, {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "l2": 0.1}, {"beta2": 0.5}],
    "adagrad": [{}, {"eps": 1e-3, "l2": 0.1}],
    "adadelta": [{"eps": 1e-3}, {"rho": 0.99, "eps": 1e-2, "l2": 0.1}],
    "lion": [{}, {"weight_decay": 0.1}, {"beta1": 0.5, "beta2": 0.9, "l2": 0.01}],
}
CASES = [(name, hyper) for name, choices in HYPER.items() for hyper in choices]


def train(update, name, dtype, shape, hyper, steps=25):
    """Descend on a bent bowl, where the gradient changes from step to step."""
    rng = np.random.default_rng(1)
    w = np.asarray(rng.standard_normal(shape), dtype)
    state = {}
    for step in range(1, steps + 1):
        g = np.tanh(w) + 0.1 * rng.standard_normal(shape)
        update(name, w, np.asarray(g, dtype), state, step, lr=0.05, **hyper)
    return w, state


def test_every_optimizer_of_the_reference_is_compiled():
    assert kernels.OPTIMIZERS == reference.OPTIMIZERS
    assert set(HYPER) == set(reference.OPTIMIZERS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "hyper"), CASES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (33,), (5, 7), (1003,)], ids=str)
def test_trajectory_is_the_twins(name, hyper, dtype, shape):
    w, state = train(kernels.optimizer_update, name, dtype, shape, hyper)
    exact, exact_state = train(reference.optimizer_update, name, np.float64, shape, hyper)
    rtol = 2e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(w, exact, rtol=rtol, atol=rtol)
    assert state.keys() == exact_state.keys() == set(reference.OPTIMIZERS[name])
    for key, value in state.items():
        assert value.dtype == dtype
        np.testing.assert_allclose(value, exact_state[key], rtol=rtol, atol=rtol)


TORCH = json.loads((Path(__file__).parent / "fixtures" / "torch_optimizers.json").read_text())


def shaken_bowl(w, step):
    """The gradient of `fixtures/make_torch_optimizers.py`."""
    shake = [0.5 * math.sin(step * i) for i in range(1, len(w) + 1)]
    return np.array(TORCH["curvature"]) * [math.tanh(x) for x in w] + shake


@pytest.mark.parametrize("name", TORCH["optimizers"])
@pytest.mark.parametrize("update", [kernels.optimizer_update, reference.optimizer_update])
def test_trajectory_is_pytorchs(name, update):
    settings, after = TORCH["optimizers"][name].values()
    w, state = np.array(TORCH["start"]), {}
    for step in range(1, 101):
        update(name, w, shaken_bowl(w, step), state, step, **settings)
        if str(step) in after:
            np.testing.assert_allclose(w, after[str(step)], rtol=1e-12, atol=1e-14)


def test_pytorch_has_all_but_one():
    assert set(reference.OPTIMIZERS) - set(TORCH["optimizers"]) == {"lion"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_lion_is_the_papers(dtype):
    # Algorithm 2 of Chen et al. 2023, line by line.
    rng = np.random.default_rng(8)
    eta, decay, beta1, beta2 = 0.01, 0.1, 0.9, 0.99
    w = rng.standard_normal(200)
    theta, m, state, w = w.copy(), np.zeros(200), {}, w.astype(dtype)
    for step in range(1, 30):
        g = rng.standard_normal(200)
        c = beta1 * m + (1 - beta1) * g
        theta = theta - eta * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
        kernels.optimizer_update(
            "lion", w, g.astype(dtype), state, step, lr=eta, beta1=beta1, beta2=beta2,
            weight_decay=decay,
        )  # fmt: skip
    tolerance = 1e-5 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(w, theta, rtol=tolerance, atol=tolerance)
    still = np.ones(3, dtype)
    kernels.optimizer_update("lion", still, np.array([0, -0.0, 1], dtype), {}, 1, lr=0.5)
    assert still.tolist() == [1, 1, 0.5]  # a gradient of zero has no sign


def test_late_steps_of_nadam_and_radam_are_their_limits():
    # All corrections are over: mu is beta1, and the damping 1.
    for name, beyond in [("nadam", 0.9 * 1.0 + 0.1 * 2.0), ("radam", 1.0)]:
        w, state = np.zeros(1), {"m": np.array([0.8 / 0.9]), "v": np.ones(1)}
        kernels.optimizer_update(name, w, np.array([2.0]), state, 10**12, lr=0.1, beta2=1 - 1e-9)
        assert state["m"] == pytest.approx(1.0)
        np.testing.assert_allclose(w, -0.1 * beyond, rtol=1e-6)


@pytest.mark.parametrize("name", kernels.OPTIMIZERS)
def test_a_tail_is_updated_like_the_body(name):
    rng = np.random.default_rng(2)
    w, g = rng.standard_normal((2, 70)).astype(np.float32)
    whole = w.copy()
    kernels.optimizer_update(name, whole, g, {}, 3, lr=0.1)
    for n in range(1, 70):
        part = w[:n].copy()
        kernels.optimizer_update(name, part, g[:n].copy(), {}, 3, lr=0.1)
        np.testing.assert_allclose(part, whole[:n], rtol=1e-6)


@pytest.mark.parametrize("name", kernels.OPTIMIZERS)
def test_works_in_place_and_leaves_the_gradient_alone(name):
    w, g = np.ones(9), np.linspace(-1, 1, 9)
    g.flags.writeable = False
    state = {"extra": None}
    assert kernels.optimizer_update(name, w, g, state, 1, lr=0.1) is None
    np.testing.assert_array_equal(g, np.linspace(-1, 1, 9))
    kept = dict(state)
    kernels.optimizer_update(name, w, g, state, 2, lr=0.1)
    assert all(state[key] is value for key, value in kept.items())
    assert (w[g > 0] < 1).all()
    assert (w[g < 0] > 1).all()


@pytest.mark.parametrize("name", kernels.OPTIMIZERS)
def test_a_rate_of_zero_moves_nothing(name):
    w = np.linspace(-1, 1, 9)
    kernels.optimizer_update(name, w, np.ones(9), {}, 1, lr=0.0, l2=0.1)
    np.testing.assert_array_equal(w, np.linspace(-1, 1, 9))


def test_step_corrects_the_bias_of_the_moments():
    # With zero moments the first Adam step is lr * sign(g), whatever the size of g.
    w = np.zeros(3)
    kernels.optimizer_update("adam", w, np.array([1e-3, -5.0, 1e4]), {}, 1, lr=0.1)
    np.testing.assert_allclose(w, [-0.1, 0.1, -0.1], rtol=1e-4)
    # At a late step the moments are taken as they are.
    late, state = np.zeros(1), {"m": np.ones(1), "v": np.ones(1)}
    kernels.optimizer_update("adam", late, np.ones(1), state, 10**15, lr=0.1)
    np.testing.assert_allclose(late, -0.1, rtol=1e-7)


def test_float32_forms_one_minus_rho_in_double():
    # In float32 arithmetic 1 - 0.999 is off by 5e-5 of itself.
    for name, hyper in [("rmsprop", {"rho": 0.999}), ("adam", {"beta2": 0.999})]:
        state = {}
        w, g = np.zeros(50, np.float32), np.linspace(1, 2, 50).astype(np.float32)
        kernels.optimizer_update(name, w, g, state, 1, lr=0.1, **hyper)
        np.testing.assert_allclose(state["v"], 0.001 * g.astype(float) ** 2, rtol=1e-6)


def test_float32_weak_decay_is_not_rounded_to_a_bias():
    # 1 - 1e-7 has no float32 within a fifth of 1e-7: a factor of that kind decays all weights
    # too fast. Rounding the new weight instead errs to both sides alike.
    rng = np.random.default_rng(3)
    w = rng.uniform(1, 2, 40_000).astype(np.float32)
    g = rng.standard_normal(w.shape).astype(np.float32)
    exact = w.astype(float)
    reference.optimizer_update("adamw", exact, g.astype(float), {}, 1, lr=1e-3, weight_decay=1e-4)
    decay = 1e-7 * w.astype(float).sum()
    kernels.optimizer_update("adamw", w, g, {}, 1, lr=1e-3, weight_decay=1e-4)
    assert abs((w.astype(float) - exact).sum()) < 0.05 * decay


W = np.ones(4)
G = np.ones(4)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": np.nan}, "lr must be at least 0 and finite; got nan"),
        ({"lr": -0.1}, "lr must be at least 0 and finite; got -0.1"),
        ({"lr": np.inf}, "lr must be at least 0 and finite; got inf"),
        ({"l2": -1.0}, "l2 must be at least 0"),
        ({"l2": np.nan}, "l2 must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1; got 1"),
        ({"rho": -0.1}, "rho must be at least 0 and below 1"),
        ({"beta1": 1.0}, "beta1 must be at least 0 and below 1"),
        ({"beta2": np.nan}, "beta2 must be at least 0 and below 1; got nan"),
        ({"eps": 0.0}, "eps must be positive and finite; got 0"),
        ({"eps": np.inf}, "eps must be positive and finite"),
    ],
)
def test_numbers_out_of_range_are_refused(hyper, message):
    w = W.copy()
    with pytest.raises(ValueError, match="^" + message):
        kernels.optimizer_update("adamw", w, G, {}, 1, **({"lr": 0.1} | hyper))
    np.testing.assert_array_equal(w, W)


def test_bad_calls_are_refused():
    def update(name="adam", w=W, g=G, state=None, step=1, **hyper):
        state = {} if state is None else state
        kernels.optimizer_update(name, w, g, state, step, **{"lr": 0.1, **hyper})

    with pytest.raises(ValueError, match="optimizer must be one of 'sgd'.*got 'tiger'"):
        update("tiger")
    with pytest.raises(ValueError, match="step counts updates from 1; got 0"):
        update(step=0)
    with pytest.raises(TypeError, match="step must be an integer; got 1.5"):
        update(step=1.5)
    with pytest.raises(TypeError, match="real number, not str"):
        update(lr="fast")
    with pytest.raises(TypeError, match="lr"):
        kernels.optimizer_update("sgd", W.copy(), G, {}, 1)
    with pytest.raises(ValueError, match="weight_decay.*'adamw' and 'lion'; 'adam' has none"):
        update(weight_decay=0.1)
    with pytest.raises(TypeError, match="state.*dict"):
        kernels.optimizer_update("sgd", W.copy(), G, None, 1, lr=0.1)
    with pytest.raises(TypeError, match="^w must be a NumPy array; got list"):
        update(w=[1.0])
    with pytest.raises(TypeError, match="^g must be float64, .*got float32"):
        update(g=G.astype(np.float32))
    with pytest.raises(ValueError, match=r"^g must have shape \(4,\); got \(2, 2\)"):
        update(g=np.ones((2, 2)))
    with pytest.raises(ValueError, match="^w must be C-contiguous"):
        update(w=np.ones(8)[::2])
    frozen = np.ones(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="^w is read-only"):
        update(w=frozen)
    with pytest.raises(ValueError, match=r"^state\['v'\] is read-only"):
        update(state={"m": np.ones(4), "v": frozen})
    with pytest.raises(ValueError, match=r"^state\['m'\] must have shape \(4,\); got \(5,\)"):
        update(state={"m": np.ones(5)})
    with pytest.raises(TypeError, match=r"^state\['v'\] must be a NumPy array; got NoneType"):
        update("momentum", state={"v": None})


@pytest.mark.parametrize("overlap", ["g is w", "g next to w", "v is w", "m is v", "v is g"])
def test_arrays_that_share_memory_are_refused(overlap):
    block = np.ones(6)
    w, g, m, v = (np.ones(4) for _ in range(4))
    if overlap == "g is w":
        g = w
    elif overlap == "g next to w":
        w, g = block[:4], block[2:]
    elif overlap == "v is w":
        v = w
    elif overlap == "m is v":
        m = v
    else:
        v = g
    with pytest.raises(ValueError, match="shares memory"):
        kernels.optimizer_update("adam", w, g, {"m": m, "v": v}, 1, lr=0.1)
