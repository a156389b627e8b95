"""Regression with a callback of one's own: stop early and go back to the best epoch.

All parameters are one flat buffer, so keeping the best ones is a copy and going back is another.

Run: python examples/04_sine_regression.py
"""

import numpy as np

import dnncore as dnn


class BackToBest(dnn.Callback):
    """Stop when the validation loss has not improved for a while; restore the best parameters."""

    def __init__(self, patience):
        self.patience, self.best, self.epoch = patience, np.inf, -1

    def on_epoch_end(self, network, epoch, logs):
        """Compare with the best epoch so far."""
        if logs["val_loss"] < self.best:
            self.best, self.epoch, self.params = logs["val_loss"], epoch, network.params.copy()
        elif epoch - self.epoch >= self.patience:
            network.stop_training = True

    def on_train_end(self, network):
        """Go back."""
        network.params[:] = self.params


rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, 500)
y = np.sin(2 * x) + 0.1 * rng.standard_normal(500)

net = dnn.Network(
    1, [dnn.Dense(64, "tanh"), dnn.Dense(64, "tanh"), dnn.Dense(1)], loss="mse", dtype="float64"
)
best = BackToBest(patience=50)
history = net.fit(
    x[:, np.newaxis],
    y,
    epochs=1000,
    batch_size=32,
    optimizer=dnn.AdamW(3e-3),
    validation_split=0.3,
    callbacks=[best],
)
epochs = len(history.history["loss"])
print(f"stopped after {epochs} epochs, best was epoch {best.epoch + 1}: loss {best.best:.4f}")

grid = np.linspace(-2.5, 2.5, 11)
predicted = net.predict(grid[:, np.newaxis])
for value, guess in zip(grid, predicted, strict=True):
    print(f"x {value:5.2f}  sin(2x) {np.sin(2 * value):6.3f}  network {guess:6.3f}")
print(f"largest error: {np.abs(predicted - np.sin(2 * grid)).max():.3f}")
