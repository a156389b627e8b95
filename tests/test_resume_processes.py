"""Every optimizer, stopped in one process and resumed in another, ends with the same bits."""

import json

from dnncore.optimizers import OPTIMIZERS

SCRIPT = """
import hashlib, json, sys
import numpy as np, dnncore as dnn
from dnncore.optimizers import OPTIMIZERS, as_optimizer

rng = np.random.default_rng(1)
X, y = rng.standard_normal((90, 5)), rng.standard_normal((90, 2))
choices = {name: as_optimizer(name) for name in OPTIMIZERS}
choices["nesterov"] = dnn.SGD(0.01, momentum=0.9, nesterov=True, clip_norm=1.0)
choices["scheduled"] = dnn.AdamW(dnn.schedules.OneCycle(0.01))
choices["lbfgs"] = dnn.LBFGS(max_iter=20)
averages = [None, dnn.EMA(0.9), dnn.SWA(0.3)]


class Stop(dnn.Callback):
    def on_batch_end(self, network, epoch, batch, loss):
        if network._position.step == 13:  # within the second epoch, or after 13 of L-BFGS
            raise KeyboardInterrupt


def train(number, optimizer, *callbacks, **more):
    random = not isinstance(optimizer, dnn.LBFGS)
    layers = [
        dnn.Dense(16), dnn.BatchNorm(), dnn.Activation("tanh"), *random * [dnn.Dropout(0.2)],
        dnn.Residual([dnn.LayerNorm(), dnn.Dense(16, "relu"), *random * [dnn.AlphaDropout(0.1)]]),
        dnn.RMSNorm(), *random * [dnn.GaussianNoise(0.1)], dnn.Dense(2),
    ]
    net = dnn.Network(5, layers, loss="mse", seed=4)
    watch = [dnn.EarlyStopping(patience=9), dnn.ReduceLROnPlateau(patience=1), *callbacks]
    history = net.fit(
        X, y, epochs=5, batch_size=8 if random else None, optimizer=optimizer, callbacks=watch,
        verbose=False, validation_split=0.1, averaging=averages[number % 3] if random else None,
        **more,
    )
    digest = hashlib.sha256(net.params.tobytes())
    if net.averaged is not None:
        digest.update(net.averaged.params.tobytes())
    digest.update(repr([history.history["loss"], history.history["val_loss"]]).encode())
    return digest.hexdigest()


found = {}
for number, (name, optimizer) in enumerate(choices.items()):
    folder = f"{sys.argv[2]}/{name}"
    if sys.argv[1] == "whole":
        found[name] = train(number, optimizer)
    elif sys.argv[1] == "stopped":
        try:
            train(number, optimizer, Stop(), dnn.Checkpoint(folder))
        except KeyboardInterrupt:
            found[name] = "stopped"
    else:
        found[name] = train(number, optimizer, dnn.Checkpoint(folder), resume_from=folder)
print(json.dumps(found))
"""


def test_every_optimizer_in_a_new_process(tmp_path, run_python):
    def found(what):
        return json.loads(run_python(SCRIPT, what, str(tmp_path)).splitlines()[-1])

    whole, stopped, resumed = (found(what) for what in ("whole", "stopped", "resumed"))
    assert set(stopped.values()) == {"stopped"}
    assert set(whole) >= {*OPTIMIZERS, "lbfgs"}
    assert resumed == whole
    assert len(set(whole.values())) == len(whole)
