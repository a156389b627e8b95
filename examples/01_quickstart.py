"""Train a classifier on handwritten digits, look at it, keep it. Needs scikit-learn for the data.

Run: python examples/01_quickstart.py
"""

import tempfile
from pathlib import Path

import dnncore as dnn
from dnncore.datasets import load_digits
from dnncore.preprocessing import train_test_split

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X, y, test_fraction=0.2)

net = dnn.Network(
    64,
    [dnn.Dense(128, "relu"), dnn.Dropout(0.2), dnn.Dense(10)],
    loss="softmax_cross_entropy",
    seed=0,
)
print(net.summary(batch_size=32))

history = net.fit(
    X_train,
    y_train,
    epochs=30,
    batch_size=32,
    optimizer=dnn.Adam(1e-3),
    validation_split=0.1,
)
print(history)

scores = net.evaluate(X_test, y_test)
print(f"test accuracy: {scores['accuracy']:.3f}")
print("predicted:", net.predict(X_test[:10]))
print("true:     ", y_test[:10])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.safetensors"
    net.save(path)
    again = dnn.load(path)
    print("the same after loading:", (again.predict(X_test) == net.predict(X_test)).all())
