"""Own the loop: train with a loss written in NumPy, here for quantiles.

The pinball loss of quantile q is q (y - p) where p is too low and (1 - q) (p - y) where it is too
high; its minimum is the quantile (Koenker and Bassett 1978, "Regression quantiles"). The network
learns the 10 %, 50 % and 90 % quantiles of y at every x, one output each.

Run: python examples/02_own_loss.py
"""

import numpy as np

import dnncore as dnn
from dnncore.preprocessing import mini_batches

QUANTILES = np.array([0.1, 0.5, 0.9])


def pinball(y, predicted):
    """Return the mean loss and its gradient by the predictions."""
    too_low = y[:, np.newaxis] > predicted
    difference = y[:, np.newaxis] - predicted
    loss = np.where(too_low, QUANTILES * difference, (QUANTILES - 1) * difference)
    return loss.mean(), np.where(too_low, -QUANTILES, 1 - QUANTILES) / loss.size


def sample(rng, n):
    """Draw points whose noise grows with |x|."""
    x = rng.uniform(-2, 2, n)
    return x[:, np.newaxis], np.sin(2 * x) + 0.3 * np.abs(x) * rng.standard_normal(n)


rng = np.random.default_rng(0)
X, y = sample(rng, 4000)
# The loss named here is for fit() and evaluate(); forward, backward and step do not use it.
net = dnn.Network(1, [dnn.Dense(32, "tanh"), dnn.Dense(32, "tanh"), dnn.Dense(3)], loss="mae")
optimizer = dnn.Adam(3e-3)

for epoch in range(40):
    losses = []
    for rows in mini_batches(len(X), 100, epoch=epoch):
        predicted = net.forward(X[rows])
        loss, gradient = pinball(y[rows], predicted)
        net.backward(gradient)  # fills net.grads
        net.step(optimizer)  # one update of net.params
        losses.append(loss)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")

X_test, y_test = sample(rng, 20_000)
below = np.mean(y_test[:, np.newaxis] <= net.predict(X_test), axis=0)
for quantile, share in zip(QUANTILES, below, strict=True):
    print(f"below the {quantile:.0%} quantile: {share:.1%} of new points")
