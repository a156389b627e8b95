"""The steps of a deep network, one function each, with examples as columns.

For people who learn how a network works: every step can be called, looked at and replaced.
``X`` is ``(n_x, m)``, one column per example; ``W1`` is ``(n_1, n_x)``, ``b1`` ``(n_1, 1)``, and so
on. Everything is float64; anything else that NumPy reads is converted. Hidden layers are ReLU, the
output is a sigmoid, the cost is the cross-entropy.

========================  ====================================================================
preprocessing             yours: flatten, scale, one column per example
parameters                ``initialize_parameters``, ``initialize_parameters_deep``
forward                   ``sigmoid``, ``relu``, ``linear_forward``,
                          ``linear_activation_forward``, ``L_model_forward``
cost                      ``compute_cost``
backward                  ``sigmoid_backward``, ``relu_backward``, ``linear_backward``,
                          ``linear_activation_backward``, ``L_model_backward``
update, predict           ``update_parameters``, ``predict``
all of it                 ``two_layer_model``, ``L_layer_model``
regularisation            ``compute_cost_with_regularization``, ``forward_propagation``,
                          ``backward_propagation_with_regularization``,
                          ``forward_propagation_with_dropout``,
                          ``backward_propagation_with_dropout``
gradient checking         ``gradient_check_n``, ``dictionary_to_vector``,
                          ``vector_to_dictionary``
optimisation              ``random_mini_batches``, ``initialize_velocity``,
                          ``update_parameters_with_momentum``, ``initialize_adam``,
                          ``update_parameters_with_adam``
========================  ====================================================================

To train networks rather than to take them apart, use ``dnncore.Network``.
"""

from dnncore.functional._activations import relu, relu_backward, sigmoid, sigmoid_backward
from dnncore.functional._backward import (
    L_model_backward,
    linear_activation_backward,
    linear_backward,
    update_parameters,
)
from dnncore.functional._forward import (
    L_model_forward,
    compute_cost,
    linear_activation_forward,
    linear_forward,
    predict,
)
from dnncore.functional._gradient_check import (
    dictionary_to_vector,
    gradient_check_n,
    vector_to_dictionary,
)
from dnncore.functional._initialization import initialize_parameters, initialize_parameters_deep
from dnncore.functional._models import L_layer_model, two_layer_model
from dnncore.functional._optimization import (
    initialize_adam,
    initialize_velocity,
    random_mini_batches,
    update_parameters_with_adam,
    update_parameters_with_momentum,
)
from dnncore.functional._regularization import (
    backward_propagation_with_dropout,
    backward_propagation_with_regularization,
    compute_cost_with_regularization,
    forward_propagation,
    forward_propagation_with_dropout,
)

__all__ = [
    "L_layer_model",
    "L_model_backward",
    "L_model_forward",
    "backward_propagation_with_dropout",
    "backward_propagation_with_regularization",
    "compute_cost",
    "compute_cost_with_regularization",
    "dictionary_to_vector",
    "forward_propagation",
    "forward_propagation_with_dropout",
    "gradient_check_n",
    "initialize_adam",
    "initialize_parameters",
    "initialize_parameters_deep",
    "initialize_velocity",
    "linear_activation_backward",
    "linear_activation_forward",
    "linear_backward",
    "linear_forward",
    "predict",
    "random_mini_batches",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "two_layer_model",
    "update_parameters",
    "update_parameters_with_adam",
    "update_parameters_with_momentum",
    "vector_to_dictionary",
]
