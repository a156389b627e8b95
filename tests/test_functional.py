"""The step-by-step functions: values, shapes, orders, gradients, errors."""

import numpy as np
import pytest

from dnncore import functional as F
from dnncore.functional import _arrays, _models
from dnncore.gradcheck import check_gradient

DIMS = [5, 4, 3, 1]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def problem(rng):
    """X, Y and parameters large enough that no ReLU is dead throughout."""
    X = rng.standard_normal((DIMS[0], 9))
    Y = (rng.random((1, 9)) < 0.5).astype(float)
    parameters = {}
    for i in range(1, len(DIMS)):
        parameters[f"W{i}"] = rng.standard_normal((DIMS[i], DIMS[i - 1]))
        parameters[f"b{i}"] = rng.standard_normal((DIMS[i], 1))
    return X, Y, parameters


def plain_forward(X, parameters, n_layers=3):
    A, activations = X, []
    for i in range(1, n_layers + 1):
        Z = parameters[f"W{i}"] @ A + parameters[f"b{i}"]
        A = np.maximum(Z, 0) if i < n_layers else 1 / (1 + np.exp(-Z))
        activations.append((Z, A))
    return activations


def in_every_form(array):
    """Yield the same numbers in the orders, dtypes and containers that NumPy reads."""
    yield np.asfortranarray(array)
    yield np.repeat(array, 2, axis=-1)[..., ::2]
    read_only = array.copy()
    read_only.flags.writeable = False
    yield read_only
    raw = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(np.float64).reshape(array.shape)
    misaligned[:] = array
    yield misaligned
    yield array.astype(">f8")
    yield array.tolist()


# ---------------------------------------------------------------- activations


def test_activations_by_hand():
    A, cache = F.sigmoid([-1, 0, np.log(3)])
    np.testing.assert_allclose(A, [1 / (1 + np.e), 0.5, 0.75], rtol=1e-15)
    np.testing.assert_array_equal(cache, [-1, 0, np.log(3)])
    A, cache = F.relu(np.array([[-2.0, 0.0, 3.0]]))
    np.testing.assert_array_equal(A, [[0, 0, 3]])
    np.testing.assert_array_equal(cache, [[-2, 0, 3]])
    assert F.sigmoid(0)[0] == 0.5
    np.testing.assert_array_equal(F.sigmoid([-800.0, 800.0])[0], [0, 1])


def test_derivatives_by_hand():
    dA = np.array([[4.0, 4.0, 4.0]])
    np.testing.assert_array_equal(F.relu_backward(dA, np.array([[-1.0, 0.0, 2.0]])), [[0, 0, 4]])
    np.testing.assert_array_equal(dA, [[4, 4, 4]])
    dZ = F.sigmoid_backward(dA, np.array([[0.0, np.log(3), -np.log(3)]]))
    np.testing.assert_allclose(dZ, [[1, 0.75, 0.75]], rtol=1e-15)


@pytest.mark.parametrize("name", ["sigmoid", "relu"])
def test_activations_take_every_form(name, rng):
    Z, dA = rng.standard_normal((2, 6, 5))
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    A, dZ = forward(Z)[0], backward(dA, Z)
    for same_Z, same_dA in zip(in_every_form(Z), in_every_form(dA), strict=True):
        np.testing.assert_array_equal(forward(same_Z)[0], A)
        np.testing.assert_array_equal(backward(dA, same_Z), dZ)
        np.testing.assert_array_equal(backward(same_dA, Z), dZ)
    assert forward(Z.astype(np.float32))[0].dtype == np.float64


# ---------------------------------------------------------------- initialisation


def test_step_by_step_initialisation_repeats_the_legacy_stream():
    stream = np.random.RandomState(3)
    parameters = F.initialize_parameters_deep([5, 4, 3])
    np.testing.assert_array_equal(parameters["W1"], stream.randn(4, 5) * 0.01)
    np.testing.assert_array_equal(parameters["W2"], stream.randn(3, 4) * 0.01)
    assert parameters["W1"][0, 0] == pytest.approx(0.0178862847)
    assert list(parameters) == ["W1", "b1", "W2", "b2"]
    np.testing.assert_array_equal(parameters["b1"], np.zeros((4, 1)))

    stream = np.random.RandomState(1)
    parameters = F.initialize_parameters(3, 2, 1)
    np.testing.assert_array_equal(parameters["W1"], stream.randn(2, 3) * 0.01)
    np.testing.assert_array_equal(parameters["W2"], stream.randn(1, 2) * 0.01)
    assert parameters["W1"][0, 0] == pytest.approx(0.0162434536)
    assert parameters["b2"].shape == (1, 1)


def test_application_initialisation_scales_by_fan_in():
    stream = np.random.RandomState(1)
    parameters = F.initialize_parameters_deep([5, 4, 3], variant="application")
    np.testing.assert_array_equal(parameters["W1"], stream.randn(4, 5) / np.sqrt(5))
    np.testing.assert_array_equal(parameters["W2"], stream.randn(3, 4) / np.sqrt(4))


def test_global_random_state_is_left_alone(problem):
    X, Y, parameters = problem
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    F.initialize_parameters(3, 2, 1)
    F.initialize_parameters_deep([3, 2, 1])
    F.forward_propagation_with_dropout(X, parameters)
    F.random_mini_batches(X, Y)
    F.L_layer_model(X, Y, DIMS, num_iterations=1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ---------------------------------------------------------------- forward, cost


@pytest.mark.parametrize("blas", [False, True])
def test_forward_equals_the_formulas(problem, monkeypatch, blas):
    monkeypatch.setattr(_arrays, "_BLAS_MIN_WORK", 0 if blas else 1 << 60)
    X, _, parameters = problem
    expected = plain_forward(X, parameters)
    AL, caches = F.L_model_forward(X, parameters)
    np.testing.assert_allclose(AL, expected[-1][1], rtol=1e-13)
    A_prev = X
    for i, (((A, W, b), Z), (Z_expected, A_next)) in enumerate(zip(caches, expected, strict=True)):
        np.testing.assert_allclose(A, A_prev, rtol=1e-13)
        assert W is parameters[f"W{i + 1}"]
        assert b is parameters[f"b{i + 1}"]
        np.testing.assert_allclose(Z, Z_expected, rtol=1e-12)
        A_prev = A_next


def test_linear_forward_takes_every_form(problem):
    X, _, parameters = problem
    W, b = parameters["W1"], parameters["b1"]
    expected, cache = F.linear_forward(X, W, b)
    np.testing.assert_allclose(expected, W @ X + b, rtol=1e-13)
    assert all(kept is given for kept, given in zip(cache, (X, W, b), strict=True))
    for same_X, same_W in zip(in_every_form(X), in_every_form(W), strict=True):
        np.testing.assert_allclose(F.linear_forward(same_X, same_W, b)[0], expected, rtol=1e-13)
        dA, dW, db = F.linear_backward(expected, (same_X, same_W, b))
        np.testing.assert_allclose(dA, W.T @ expected, rtol=1e-12)
        np.testing.assert_allclose(dW, expected @ X.T / 9, rtol=1e-12)
        np.testing.assert_allclose(db, expected.mean(axis=1, keepdims=True), rtol=1e-12)
    integers = np.arange(6).reshape(3, 2)
    Z, cache = F.linear_forward(integers, np.ones((1, 3), np.float32), [[1]])
    np.testing.assert_array_equal(Z, [[7, 10]])
    assert all(array.dtype == np.float64 for array in cache)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_linear_activation_forward(problem, activation):
    X, _, parameters = problem
    A, (linear_cache, Z) = F.linear_activation_forward(
        X, parameters["W1"], parameters["b1"], activation
    )
    np.testing.assert_array_equal(Z, F.linear_forward(*linear_cache)[0])
    np.testing.assert_array_equal(A, getattr(F, activation)(Z)[0])


def test_cost_is_the_mean_cross_entropy_and_zero_dimensional():
    cost = F.compute_cost([[0.8, 0.9, 0.4]], [[1, 1, 0]])
    assert cost.shape == ()
    assert cost == pytest.approx(-np.log(0.8 * 0.9 * 0.6) / 3)
    assert F.compute_cost([[0.8, 0.9, 0.4]], [1, 1, 0]) == cost
    assert F.compute_cost([[0.8]], [[0.3]]) == pytest.approx(-0.3 * np.log(0.8) - 0.7 * np.log(0.2))


def test_cost_is_not_clipped():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert F.compute_cost([[0.0, 0.5]], [[1, 1]]) == np.inf


# ---------------------------------------------------------------- backward


def test_gradients_match_differences(problem):
    X, Y, parameters = problem
    AL, caches = F.L_model_forward(X, parameters)
    grads = F.L_model_backward(AL, Y, caches)
    for name, value in {**parameters, "X": X}.items():

        def cost(changed, name=name):
            if name == "X":
                return F.compute_cost(F.L_model_forward(changed, parameters)[0], Y)
            return F.compute_cost(F.L_model_forward(X, {**parameters, name: changed})[0], Y)

        # dA is the gradient of the sum of the losses, dW and db of their mean.
        gradient = grads["dA0"] / 9 if name == "X" else grads[f"d{name}"]
        check_gradient(cost, lambda _, gradient=gradient: gradient, value, eps=1e-5)


def test_backward_names_its_gradients_in_both_styles(problem):
    X, Y, parameters = problem
    AL, caches = F.L_model_forward(X, parameters)
    by_input = F.L_model_backward(AL, Y, tuple(caches))
    by_layer = F.L_model_backward(AL, Y, caches, dA_index="layer")
    rest = {f"d{name}" for name in parameters}
    assert set(by_input) == rest | {"dA0", "dA1", "dA2"}
    assert set(by_layer) == rest | {"dA1", "dA2", "dA3"}
    for i in range(3):
        np.testing.assert_array_equal(by_input[f"dA{i}"], by_layer[f"dA{i + 1}"])
        assert by_input[f"dA{i}"].shape == (DIMS[i], 9)


def test_backward_does_not_assume_that_AL_comes_from_the_caches(problem):
    X, _, parameters = problem
    _, caches = F.L_model_forward(X, parameters)
    AL, Y = np.full((1, 9), 1.7), np.full((1, 9), 0.4)
    (A_prev, W, _), Z = caches[-1]
    s = 1 / (1 + np.exp(-Z))
    dZ = -(Y / AL - (1 - Y) / (1 - AL)) * s * (1 - s)
    grads = F.L_model_backward(AL, Y, caches)
    np.testing.assert_allclose(grads["dW3"], dZ @ A_prev.T / 9, rtol=1e-12)
    np.testing.assert_allclose(grads["db3"], dZ.mean(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(grads["dA2"], W.T @ dZ, rtol=1e-12)


def test_update_returns_new_arrays(problem):
    X, Y, parameters = problem
    AL, caches = F.L_model_forward(X, parameters)
    grads = F.L_model_backward(AL, Y, caches)
    before = {name: value.copy() for name, value in parameters.items()}
    updated = F.update_parameters(parameters, grads, 0.1)
    assert list(updated) == list(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(value, before[name])
        assert not np.shares_memory(updated[name], value)
        assert not np.shares_memory(updated[name], grads[f"d{name}"])
        np.testing.assert_allclose(updated[name], value - 0.1 * grads[f"d{name}"], rtol=1e-15)


def test_predict_prints_the_accuracy_and_ties_are_zero(capsys):
    parameters = {"W1": np.array([[1.0]]), "b1": np.zeros((1, 1))}
    X = np.array([[-1.0, 0.0, 1.0, 2.0]])
    p = F.predict(X, [[0, 1, 1, 1]], parameters)
    np.testing.assert_array_equal(p, [[0, 0, 1, 1]])
    assert p.dtype == np.float64
    assert capsys.readouterr().out == "Accuracy: 0.75\n"
    F.predict(X, None, parameters)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- whole loops


def loop_of_steps(X, Y, parameters, learning_rate, n):
    costs = []
    for i in range(n):
        AL, caches = F.L_model_forward(X, parameters)
        if i % 100 == 0:
            costs.append(F.compute_cost(AL, Y))
        grads = F.L_model_backward(AL, Y, caches)
        parameters = F.update_parameters(parameters, grads, learning_rate)
    return parameters, costs


@pytest.mark.parametrize("slab_work", [_models.SLAB_WORK, 16])
@pytest.mark.parametrize("dims", [DIMS, [5, 3, 1], [5, 1], [5, 4, 2]])
def test_models_follow_the_loop_of_steps(problem, monkeypatch, dims, slab_work):
    monkeypatch.setattr(_models, "SLAB_WORK", slab_work)
    X, Y, _ = problem
    Y = np.repeat(Y, dims[-1], axis=0)
    start = F.initialize_parameters_deep(dims, variant="application")
    expected, expected_costs = loop_of_steps(X, Y, start, 0.5, 201)
    for data in (X, np.asfortranarray(X), X.tolist()):
        parameters, costs = F.L_layer_model(data, Y, dims, 0.5, 201)
        assert list(parameters) == list(expected)
        for name in expected:
            np.testing.assert_allclose(parameters[name], expected[name], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(costs, expected_costs, rtol=1e-10)
        assert len(costs) == 3
        assert costs[0].shape == ()
        assert costs[2] < costs[0]


def test_two_layer_model_starts_from_initialize_parameters(problem):
    X, Y, _ = problem
    start = F.initialize_parameters(5, 3, 1)
    expected, expected_costs = loop_of_steps(X, Y, start, 1.0, 150)
    parameters, costs = F.two_layer_model(X, Y[0], (5, 3, 1), 1.0, 150)
    for name in expected:
        np.testing.assert_allclose(parameters[name], expected[name], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(costs, expected_costs, rtol=1e-12)


def test_models_give_the_same_bits_for_any_number_of_threads(rng, monkeypatch):
    monkeypatch.setattr(_models, "SLAB_WORK", 64)
    X, Y = rng.standard_normal((50, 11)), rng.integers(0, 2, (1, 11))
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("DNNCORE_NUM_THREADS", threads)
        results.append(F.L_layer_model(X, Y, [50, 4, 1], 0.1, 20)[0])
    for other in results[1:]:
        for name in other:
            np.testing.assert_array_equal(other[name], results[0][name])


def test_models_leave_their_data_alone_and_print_only_when_asked(problem, capsys):
    X, Y, _ = problem
    X_before, Y_before = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    parameters, costs = F.L_layer_model(X, Y, DIMS, num_iterations=0)
    assert costs == []
    start = F.initialize_parameters_deep(DIMS, variant="application")
    np.testing.assert_array_equal(parameters["W2"], start["W2"])
    F.L_layer_model(X, Y, DIMS, num_iterations=101)
    assert capsys.readouterr().out == ""
    _, costs = F.two_layer_model(X, Y, (5, 2, 1), num_iterations=101, print_cost=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Cost after iteration {i}: {c}" for i, c in zip((0, 100), costs, strict=True)]
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(Y, Y_before)


# ---------------------------------------------------------------- refusals

X3, W23, B2, Y3 = np.ones((3, 4)), np.ones((2, 3)), np.zeros((2, 1)), np.ones((1, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.linear_forward(X3.T, W23, B2), r"W must have shape \(n, 4\).*got \(2, 3\)"),
        (lambda: F.linear_forward(X3, W23, np.zeros(2)), r"b must have shape \(2, 1\).*got \(2,\)"),
        (lambda: F.linear_forward(np.ones(3), W23, B2), r"A must be a matrix.*reshape\(1, -1\)"),
        (lambda: F.linear_forward(np.ones((3, 2, 2)), W23, B2), r"Flatten each example"),
        (lambda: F.linear_forward(np.ones((3, 0)), W23, B2), r"got an array of shape \(3, 0\)"),
        (lambda: F.linear_activation_forward(X3, W23, B2, "tanh"), "activation must be one of"),
        (lambda: F.relu_backward(np.ones((1, 3)), np.ones((3, 1))), "dA must have shape"),
        (lambda: F.L_model_forward(X3, {"W1": W23}), "parameters must hold 'b1'"),
        (lambda: F.L_model_forward(X3, {"weights": W23}), "parameters must hold 'W1'"),
        (
            lambda: F.L_model_forward(X3, {"W1": W23, "b1": B2, "W2": W23, "b2": B2}),
            r"W2 must have shape \(n, 2\), one column for each row of A1",
        ),
        (lambda: F.compute_cost(Y3, np.ones((4, 1))), r"Y must have the shape.*\(1, 4\)"),
        (lambda: F.linear_backward(X3, (X3, W23, B2)), r"dZ must have shape \(2, 4\)"),
        (lambda: F.L_model_backward(Y3, Y3, []), "caches is empty"),
        (lambda: F.update_parameters({"W1": W23, "b1": B2}, {"dW1": W23}, 1), "must hold 'db1'"),
        (
            lambda: F.update_parameters({"W1": W23, "b1": B2}, {"dW1": W23.T, "db1": B2}, 1),
            "dW1 must have shape",
        ),
        (lambda: F.initialize_parameters_deep([3]), "at least the input's and the output's"),
        (lambda: F.initialize_parameters_deep([3, 0]), r"layer_dims\[1\] must be at least 1"),
        (lambda: F.initialize_parameters_deep([3, 1], variant="he"), "variant must be one of"),
        (lambda: F.L_layer_model(X3.T, Y3, [3, 2, 1]), "X must have 3 rows"),
        (lambda: F.L_layer_model(X3, Y3, [3, 2, 2]), "Y must have the shape"),
        (lambda: F.L_layer_model(X3 * np.nan, Y3, [3, 2, 1]), "X contains NaN"),
        (lambda: F.L_layer_model(X3, Y3 * np.inf, [3, 2, 1]), "Y contains infinity"),
        (lambda: F.L_layer_model(X3, Y3, [3, 1], num_iterations=-1), "num_iterations must be at"),
        (lambda: F.two_layer_model(X3, Y3, [3, 4, 2, 1]), r"must be \(n_x, n_h, n_y\)"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_things_that_are_not_numbers_are_type_errors():
    with pytest.raises(TypeError, match="must hold real numbers"):
        F.sigmoid(["a", "b"])
    with pytest.raises(TypeError, match="Complex data not supported"):
        F.relu([1j])
    with pytest.raises(TypeError, match="layer_dims must be a list of widths"):
        F.initialize_parameters_deep(5)
    with pytest.raises(TypeError, match="n_h must be an integer"):
        F.initialize_parameters(3, 2.5, 1)
