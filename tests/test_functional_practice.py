"""The step-by-step functions of regularisation, gradient checking and optimisation."""

import numpy as np
import pytest

from dnncore import functional as F
from dnncore.gradcheck import check_gradient

DIMS = [5, 4, 3, 1]
M = 9


@pytest.fixture
def problem():
    rng = np.random.default_rng(11)
    X = rng.standard_normal((DIMS[0], M))
    Y = (rng.random((1, M)) < 0.5).astype(float)
    parameters = {}
    for i in range(1, len(DIMS)):
        parameters[f"W{i}"] = rng.standard_normal((DIMS[i], DIMS[i - 1]))
        parameters[f"b{i}"] = rng.standard_normal((DIMS[i], 1))
    return X, Y, parameters


def check_all(cost_of, grads, parameters):
    for name, value in parameters.items():
        check_gradient(
            lambda changed, name=name: cost_of({**parameters, name: changed}),
            lambda _, name=name: grads[f"d{name}"],
            value,
            eps=1e-5,
        )


def test_flat_forward_is_the_plain_one(problem):
    X, _, parameters = problem
    AL, cache = F.forward_propagation(X, parameters)
    expected, caches = F.L_model_forward(X, parameters)
    np.testing.assert_array_equal(AL, expected)
    assert len(cache) == 12
    np.testing.assert_array_equal(cache[4], caches[1][1])
    np.testing.assert_array_equal(cache[5], caches[2][0][0])
    assert cache[6] is parameters["W2"]
    assert cache[11] is parameters["b3"]


def test_regularised_gradients_match_differences(problem):
    X, Y, parameters = problem
    _, cache = F.forward_propagation(X, parameters)
    grads = F.backward_propagation_with_regularization(X, Y, cache, 0.7)

    def cost_of(changed):
        A3, _ = F.forward_propagation(X, changed)
        return F.compute_cost_with_regularization(A3, Y, changed, 0.7)

    check_all(cost_of, grads, parameters)
    assert {"dZ1", "dZ2", "dZ3", "dA1", "dA2"} == set(grads) - {f"d{name}" for name in parameters}


def test_regularised_cost_by_hand():
    parameters = {"W1": np.array([[1.0, -2.0]]), "b1": np.array([[100.0]])}
    cost = F.compute_cost_with_regularization([[0.5, 0.5]], [[1, 0]], parameters, 0.8)
    assert cost.shape == ()
    assert cost == pytest.approx(np.log(2) + 0.8 / 4 * 5)


def test_dropout_gradients_match_differences(problem):
    X, Y, parameters = problem
    A3, cache = F.forward_propagation_with_dropout(X, parameters, 0.6)
    assert len(cache) == 14
    grads = F.backward_propagation_with_dropout(X, Y, cache, 0.6)

    def cost_of(changed):  # the masks come from the same seed
        return F.compute_cost(F.forward_propagation_with_dropout(X, changed, 0.6)[0], Y)

    check_all(cost_of, grads, parameters)


def test_dropout_masks_come_from_the_legacy_stream(problem):
    X, _, parameters = problem
    _, cache = F.forward_propagation_with_dropout(X, parameters, 0.6)
    Z1, D1, A1, _, _, _, D2 = cache[:7]
    stream = np.random.RandomState(1)
    np.testing.assert_array_equal(D1, stream.rand(4, M) < 0.6)
    np.testing.assert_array_equal(D2, stream.rand(3, M) < 0.6)
    assert 0 < D1.sum() < D1.size
    np.testing.assert_allclose(A1, np.maximum(Z1, 0) * D1 / 0.6, rtol=1e-15)
    other = F.forward_propagation_with_dropout(X, parameters, 0.6, seed=2)[1][1]
    assert (other != D1).any()


def test_dropout_keeping_everything_is_the_plain_network(problem):
    X, Y, parameters = problem
    A3, cache = F.forward_propagation_with_dropout(X, parameters, 1.0)
    plain, plain_cache = F.forward_propagation(X, parameters)
    np.testing.assert_array_equal(A3, plain)
    grads = F.backward_propagation_with_dropout(X, Y, cache, 1.0)
    for name, value in F.backward_propagation_with_regularization(X, Y, plain_cache, 0).items():
        np.testing.assert_array_equal(grads[name], value)


def test_backward_refuses_the_cache_of_the_other_forward(problem):
    X, Y, parameters = problem
    _, plain = F.forward_propagation(X, parameters)
    _, dropped = F.forward_propagation_with_dropout(X, parameters)
    with pytest.raises(ValueError, match="second result of forward_propagation_with_dropout"):
        F.backward_propagation_with_dropout(X, Y, plain, 0.5)
    with pytest.raises(ValueError, match="cache has 14 entries"):
        F.backward_propagation_with_regularization(X, Y, dropped, 0.5)


@pytest.mark.parametrize("keep_prob", [0, -0.5, 1.5, float("nan")])
def test_keep_prob_is_a_probability_above_zero(problem, keep_prob):
    X, _, parameters = problem
    with pytest.raises(ValueError, match="keep_prob must be"):
        F.forward_propagation_with_dropout(X, parameters, keep_prob)


# ---------------------------------------------------------------- gradient checking


def test_vector_and_dictionary_are_inverse(problem):
    _, _, parameters = problem
    theta, keys = F.dictionary_to_vector(parameters)
    n = sum(value.size for value in parameters.values())
    assert theta.shape == (n, 1)
    assert keys == [name for name, value in parameters.items() for _ in range(value.size)]
    assert theta[1, 0] == parameters["W1"][0, 1]
    back = F.vector_to_dictionary(theta, parameters)
    assert list(back) == list(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)
        assert not np.shares_memory(back[name], theta)
    with pytest.raises(ValueError, match=f"theta must have {n} elements.*got {n - 1}"):
        F.vector_to_dictionary(theta[1:], parameters)


def test_gradient_check_accepts_right_and_rejects_wrong_gradients(problem, capsys):
    X, Y, parameters = problem
    AL, caches = F.L_model_forward(X, parameters)
    grads = F.L_model_backward(AL, Y, caches)
    before = {name: value.copy() for name, value in parameters.items()}
    assert F.gradient_check_n(parameters, grads, X, Y) < 2e-7
    assert capsys.readouterr().out == ""
    for name, value in parameters.items():
        np.testing.assert_array_equal(value, before[name])

    assert F.gradient_check_n(parameters, grads, X, Y, print_msg=True) < 2e-7
    assert " agree: relative difference" in capsys.readouterr().out
    wrong = {**grads, "dW2": grads["dW2"] * 2.001 / 2}
    difference = F.gradient_check_n(parameters, wrong, X, Y, print_msg=True)
    assert difference > 1e-5
    assert f"do not agree: relative difference {difference}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="gradients must hold 'dW1'"):
        F.gradient_check_n(parameters, {}, X, Y)


# ---------------------------------------------------------------- optimisation


def test_mini_batches_are_a_permutation_cut_into_columns():
    X = np.arange(20.0).reshape(2, 10)
    Y = np.arange(10)
    batches = F.random_mini_batches(X, Y, 4, seed=5)
    assert [x.shape for x, _ in batches] == [(2, 4), (2, 4), (2, 2)]
    assert [y.shape for _, y in batches] == [(1, 4), (1, 4), (1, 2)]
    for x, y in batches:
        np.testing.assert_array_equal(x[0], y[0])
        np.testing.assert_array_equal(x[1], y[0] + 10)
    order = np.concatenate([y[0] for _, y in batches])
    np.testing.assert_array_equal(order, np.random.RandomState(5).permutation(10))
    assert (F.random_mini_batches(X, Y, 4, seed=6)[0][1] != batches[0][1]).any()
    assert len(F.random_mini_batches(X, Y, 5)) == 2
    with pytest.raises(ValueError, match="Y must have the shape"):
        F.random_mini_batches(X, Y[:-1], 4)
    with pytest.raises(ValueError, match="mini_batch_size must be at least 1"):
        F.random_mini_batches(X, Y, 0)


def one_parameter(value, gradient):
    return {"W1": [[value]], "b1": [[0.0]]}, {"dW1": [[gradient]], "db1": [[0.0]]}


def test_momentum_by_hand():
    parameters, grads = one_parameter(1.0, 10.0)
    v = F.initialize_velocity(parameters)
    assert v["dW1"].shape == (1, 1)
    parameters, v = F.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
    assert v["dW1"][0, 0] == pytest.approx(1.0)
    assert parameters["W1"][0, 0] == pytest.approx(0.9)
    parameters, v = F.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
    assert v["dW1"][0, 0] == pytest.approx(1.9)
    assert parameters["W1"][0, 0] == pytest.approx(0.71)


def test_adam_by_hand():
    parameters, grads = one_parameter(1.0, 10.0)
    v, s = F.initialize_adam(parameters)
    parameters, v, s, vc, sc = F.update_parameters_with_adam(parameters, grads, v, s, 1, 0.1)
    assert v["dW1"][0, 0] == pytest.approx(1.0)
    assert s["dW1"][0, 0] == pytest.approx(0.1)
    assert vc["dW1"][0, 0] == pytest.approx(10.0)
    assert sc["dW1"][0, 0] == pytest.approx(100.0)
    assert parameters["W1"][0, 0] == pytest.approx(1 - 0.1 * 10 / (10 + 1e-8))
    grads = {"dW1": [[0.0]], "db1": [[0.0]]}
    parameters, v, s, vc, sc = F.update_parameters_with_adam(
        parameters, grads, v, s, 2, 0.1, beta1=0.5, beta2=0.75, epsilon=1.0
    )
    assert vc["dW1"][0, 0] == pytest.approx(0.5 / (1 - 0.25))
    assert sc["dW1"][0, 0] == pytest.approx(0.075 / (1 - 0.75**2))
    step = 0.1 * vc["dW1"][0, 0] / (np.sqrt(sc["dW1"][0, 0]) + 1.0)
    assert parameters["W1"][0, 0] == pytest.approx(0.9 - step, rel=1e-7)


def test_optimisers_do_not_touch_what_they_are_given(problem):
    X, Y, parameters = problem
    AL, caches = F.L_model_forward(X, parameters)
    grads = F.L_model_backward(AL, Y, caches)
    v, s = F.initialize_adam(parameters)
    given = [parameters, grads, v, s]
    before = [{name: value.copy() for name, value in group.items()} for group in given]
    F.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
    F.update_parameters_with_adam(parameters, grads, v, s, 1)
    for group, copies in zip(given, before, strict=True):
        for name, value in group.items():
            np.testing.assert_array_equal(value, copies[name])


@pytest.mark.parametrize("step", ["momentum", "adam"])
def test_optimisers_lower_the_cost(problem, step):
    X, Y, parameters = problem
    v, s = F.initialize_adam(parameters)
    costs = []
    for t in range(1, 151):
        AL, caches = F.L_model_forward(X, parameters)
        costs.append(F.compute_cost(AL, Y))
        grads = F.L_model_backward(AL, Y, caches)
        if step == "momentum":
            parameters, v = F.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
        else:
            parameters, v, s, _, _ = F.update_parameters_with_adam(parameters, grads, v, s, t, 0.02)
    assert costs[-1] < 0.5 * costs[0]


def test_optimisers_refuse_bad_numbers(problem):
    _, _, parameters = problem
    v, s = F.initialize_adam(parameters)
    with pytest.raises(ValueError, match="beta must be less than 1"):
        F.update_parameters_with_momentum(parameters, v, v, 1.0, 0.1)
    with pytest.raises(ValueError, match="t must be at least 1"):
        F.update_parameters_with_adam(parameters, v, v, s, 0)
    with pytest.raises(ValueError, match="v must hold 'dW1'"):
        F.update_parameters_with_momentum(parameters, v, {}, 0.9, 0.1)
    with pytest.raises(ValueError, match=r"s\['dW1'\] must have shape"):
        F.update_parameters_with_adam(parameters, v, v, {**s, "dW1": np.zeros(3)}, 1)
