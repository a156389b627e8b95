"""Schedules: their values against PyTorch's, and training that follows them."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import dnncore as dnn
from dnncore import reference as ref
from dnncore import schedules
from dnncore.optimizers import OPTIMIZERS, optimizer_from_config
from dnncore.schedules import Cosine, OneCycle, PerEpoch, Polynomial, Step, Warmup

TORCH = json.loads((Path(__file__).parent / "fixtures" / "torch_schedules.json").read_text())
EXAMPLES = [
    *(eval(words, vars(schedules)) for words in TORCH),
    schedules.InverseScaling(0.3, 0.7),
    Warmup(Cosine(0.5, steps=40), 10, start=0.1),
    Warmup(0.2, 5),
    PerEpoch(Step(0.1, every=2), steps_per_epoch=7),
    schedules.Exponential(0.5, 0.9, every=10, first=20),
]


@pytest.mark.parametrize("words", TORCH)
def test_values_are_pytorchs(words):
    schedule = eval(words, vars(schedules))
    np.testing.assert_allclose(schedule.values(0, 60), TORCH[words], rtol=1e-12, atol=1e-16)


def test_values_by_hand():
    assert schedules.InverseScaling(0.6, 1.0).values(0, 3).tolist() == [
        0.6,
        0.3,
        pytest.approx(0.2),
    ]
    assert schedules.Exponential(1.0, 0.25, every=2).values(0, 3).tolist() == [1.0, 0.5, 0.25]
    np.testing.assert_allclose(
        Warmup(0.5, 4, start=0.1).values(0, 6), [0.2, 0.3, 0.4, 0.5, 0.5, 0.5]
    )
    after = Warmup(Polynomial(1.0, steps=2), 2).values(0, 6)
    np.testing.assert_allclose(after, [0.5, 1.0, 1.0, 0.5, 0.0, 0.0])
    halves = PerEpoch(Step(1.0, every=2, factor=0.5), 3).values(4, 10)
    assert halves.tolist() == [1.0] * 2 + [0.5] * 6 + [0.25] * 2
    late = Step(1.0, every=2, factor=0.5, first=3).values(0, 8)
    assert late.tolist() == [1.0] * 5 + [0.5] * 2 + [0.25]
    assert schedules.Function(lambda step: 1 / (step + 1)).values(1, 2).tolist() == [1 / 2, 1 / 3]
    assert OneCycle(0.8, 1)(0) == 0.8


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
class TestEverySchedule:
    def test_varies_and_does_not_depend_on_how_it_is_asked(self, schedule):
        whole = schedule.values(0, 100)
        assert whole.shape == (100,) and np.ptp(whole) > 0 and np.isfinite(whole).all()
        pieces = [schedule.values(a, b - a) for a, b in [(0, 1), (1, 18), (18, 51), (51, 100)]]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
        assert [schedule(step) for step in (0, 33)] == whole[[0, 33]].tolist()

    def test_survives_words_files_and_processes(self, schedule):
        config = json.loads(json.dumps(schedule.get_config()))
        assert schedules.schedule_from_config(config) == schedule
        assert pickle.loads(pickle.dumps(schedule)) == schedule
        if not isinstance(schedule, (Warmup, PerEpoch)):
            assert eval(repr(schedule), vars(schedules)) == schedule

    def test_is_drawn(self, schedule):
        axes = schedule.plot(60)
        x, y = axes.lines[0].get_data()
        np.testing.assert_array_equal(x, np.arange(60))
        np.testing.assert_array_equal(y, schedule.values(0, 60))


def test_plot_takes_axes_and_the_own_length():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert Cosine(0.1, steps=30).plot(ax=axes) is axes
    assert len(axes.lines[0].get_xdata()) == 30
    Cosine(0.1).plot(20, ax=axes)
    assert axes.lines[1].get_ydata()[10] == pytest.approx(0.05)
    with pytest.raises(ValueError, match="how many steps"):
        Cosine(0.1).plot()


def test_plot_by_epochs_where_steps_are_not_known():
    axes = PerEpoch(Step(0.1, every=2)).plot(4)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1, 0.1, 0.01, 0.01])
    assert axes.get_xlabel() == "epoch"
    axes = PerEpoch(Step(0.1, every=2), steps_per_epoch=2).plot(6)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert axes.get_xlabel() == "step"


# ------------------------------------------------------------------ in training

X = np.random.default_rng(0).standard_normal((40, 3))
Y = X @ [[1.0], [-2.0], [0.5]] + 1.0
SCHEDULED = {  # optimizer, the twin's name, its hyper-parameters at step t = 0, 1, ...
    "learning rate": (
        dnn.Adam(Cosine(0.1, steps=30, final=0.01)),
        "adam",
        lambda t: {"lr": 0.01 + 0.045 * (1 + math.cos(math.pi * min(t / 30, 1)))},
    ),
    "momentum": (
        dnn.SGD(0.01, momentum=Polynomial(0.5, steps=20, final=0.9)),
        "momentum",
        lambda t: {"lr": 0.01, "momentum": 0.5 + 0.4 * min(t / 20, 1)},
    ),
    "decay and betas": (
        dnn.AdamW(
            lambda step: 0.05 / (1 + step),
            weight_decay=Step(0.5, every=5),
            beta1=OneCycle(0.85, 40, initial=0.95, final=0.95),
            beta2=Polynomial(0.9, 50, final=0.99),
            l2=schedules.Exponential(0.1, 0.9),
        ),
        "adamw",
        lambda t: {
            "lr": 0.05 / (1 + t),
            "weight_decay": 0.5 * 0.1 ** (t // 5),
            "beta1": OneCycle(0.85, 40, initial=0.95, final=0.95)(t),
            "beta2": 0.9 + 0.09 * min(t / 50, 1),
            "l2": 0.1 * 0.9**t,
        },
    ),
}


def make(**more):
    layers = [dnn.Dense(5, "tanh"), dnn.Dense(1)]
    return dnn.Network(3, layers, loss="mse", dtype="float64", seed=3, **more)


def follow(net, name, hyper, batches):
    """Train the twin, one step at a time, with that step's hyper-parameters."""
    layers = [(w.copy(), b.copy(), a) for w, b, a in
              zip(net.weights, net.biases, ["tanh", "identity"], strict=True)]  # fmt: skip
    states = [({}, {}) for _ in layers]
    for step, batch in enumerate(batches):
        (w1, b1, _), (w2, b2, _) = layers
        a1, z1 = ref.linear_forward(X[batch], w1, b1, "tanh")
        a2, z2 = ref.linear_forward(a1, w2, b2)
        _, d2 = ref.loss("mse", a2, Y[batch])
        d1, dw2, db2 = ref.linear_backward(d2, a1, w2, z2, a2)
        _, dw1, db1 = ref.linear_backward(d1, X[batch], w1, z1, a1, "tanh", need_dx=False)
        settings = hyper(step)
        plain = {k: v for k, v in settings.items() if k not in ("l2", "weight_decay")}
        for (w, b, _), dw, db, (sw, sb) in zip(layers, (dw1, dw2), (db1, db2), states, strict=True):
            ref.optimizer_update(name, w, dw, sw, step + 1, **settings)
            ref.optimizer_update(name, b, db, sb, step + 1, **plain)
    return np.concatenate([part.ravel() for w, b, _ in layers for part in (w, b)])


@pytest.mark.parametrize("case", SCHEDULED)
def test_every_step_has_its_own_numbers(case, monkeypatch):
    optimizer, name, hyper = SCHEDULED[case]
    net = make()
    batches = [b for epoch in range(10) for b in np.split(ref.shuffle(40, 3, 0, epoch), 5)]
    expected = follow(net, name, hyper, batches)
    parts = net.copy()
    net.fit(X, Y, epochs=10, batch_size=8, optimizer=optimizer)
    np.testing.assert_allclose(net.params, expected, rtol=1e-10, atol=1e-12)
    # In several calls, by single steps, and with tables that end within an epoch
    parts.fit(X, Y, epochs=4, batch_size=8, optimizer=optimizer)
    for batch in batches[20:30]:
        parts.train_step(X[batch], Y[batch], optimizer)
    parts._position.epoch += 2
    monkeypatch.setattr("dnncore._optimizer.TABLE_STEPS", 3)
    parts.fit(X, Y, epochs=4, batch_size=8, optimizer=optimizer)
    np.testing.assert_array_equal(parts.params, net.params)


def test_own_loop_follows_too():
    optimizer, net = SCHEDULED["momentum"][0], make()
    own = net.copy()
    for _ in range(5):
        net.train_step(X, Y, optimizer)
        _, d_out = ref.loss("mse", own.forward(X), Y)
        own.backward(d_out)
        own.step(optimizer)
    np.testing.assert_allclose(own.params, net.params, rtol=1e-12)


def test_without_a_length_it_lasts_as_long_as_fit():
    for schedule, stated in [
        (Cosine(0.1), Cosine(0.1, steps=50)),
        (Warmup(Cosine(0.1), 5), Warmup(Cosine(0.1, steps=45), 5)),
        (PerEpoch(Cosine(0.1)), PerEpoch(Cosine(0.1, steps=10), 5)),
        (PerEpoch(Step(0.1, every=3)), Step(0.1, every=15)),
    ]:
        net, other = make(), make()
        net.fit(X, Y, epochs=10, batch_size=8, optimizer=dnn.Adam(schedule))
        other.fit(X, Y, epochs=10, batch_size=8, optimizer=dnn.Adam(stated))
        np.testing.assert_array_equal(net.params, other.params)
        # A second call begins anew.
        net.fit(X, Y, epochs=2, batch_size=8, optimizer=dnn.Adam(Cosine(0.1)))
        other.fit(X, Y, epochs=2, batch_size=8, optimizer=dnn.Adam(Cosine(0.1, steps=10, first=50)))
        np.testing.assert_array_equal(net.params, other.params)
    with pytest.raises(ValueError, match="Cosine without steps lasts as long as a call of fit"):
        make().train_step(X, Y, dnn.Adam(Cosine(0.1)))
    with pytest.raises(ValueError, match="PerEpoch needs fit"):
        make().train_step(X, Y, dnn.Adam(PerEpoch(Step(0.1, 3))))


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
@pytest.mark.parametrize("other_clip", ["clip_norm", "clip_value"])  # only one may be given
def test_every_number_of_every_optimizer_may_be_scheduled(kind, other_clip):
    numbers = [f.name for f in dataclasses.fields(kind) if f.name not in ("nesterov", other_clip)]
    optimizer = kind(**{name: Polynomial(0.5, steps=4, final=0.1) for name in numbers})
    assert optimizer.is_scheduled and not kind().is_scheduled
    chosen, table = optimizer.settings(1, steps=6, scale=0.5)
    assert chosen == kind(**dict.fromkeys(numbers, 0.5)).settings()[0]
    line = np.array([0.4, 0.3, 0.2, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(table[:, 0], 0.5 * line)
    assert sum(np.allclose(column, line) for column in table.T) == len(numbers) - 1
    assert optimizer.value(numbers[-1], 2) == pytest.approx(0.3)
    config = json.loads(json.dumps(optimizer.get_config()))
    assert optimizer_from_config(config) == optimizer
    assert optimizer_from_config(kind().get_config()) == kind()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Cosine("fast"), TypeError, "initial must be a number; got 'fast'"),
        (lambda: Cosine(0.1, 0), ValueError, "steps must be at least 1; got 0"),
        (lambda: Cosine(0.1, growth=0.0), ValueError, "growth must be greater than 0"),
        (lambda: Cosine(0.1, restarts=-1), ValueError, "restarts must be at least 0; got -1"),
        (lambda: Step(0.1, every=0), ValueError, "every must be at least 1; got 0"),
        (lambda: Step(0.1, every=1.5), TypeError, "every must be an integer; got 1.5"),
        (lambda: schedules.Exponential(0.1, 0.0), ValueError, "rate must be greater than 0"),
        (lambda: OneCycle(0.1, rise=1.0), ValueError, "rise must be less than 1; got 1"),
        (lambda: Warmup("slow", 5), TypeError, "value must be a number; got 'slow'"),
        (lambda: Warmup(0.1, 0), ValueError, "steps must be at least 1; got 0"),
        (lambda: schedules.Function(3), TypeError, "a Schedule or a function; got 3"),
        (
            lambda: dnn.SGD(0.1, momentum=Polynomial(0.5, 10, final=1.5)).settings(0),
            ValueError,
            r"momentum, which Polynomial\(initial=0.5, steps=10, final=1.5\) sets at step 10, "
            "must be less than 1; got 1.5",
        ),
        (
            lambda: make().fit(X, Y, batch_size=4, optimizer=dnn.Adam(lambda step: 1.0 - step)),
            ValueError,
            "learning_rate, which .* at step .* must be at least 0",
        ),
        (
            lambda: make().fit(X, Y, optimizer=dnn.Adam(lambda step: math.nan)),
            ValueError,
            "a schedule's value must be finite; got nan",
        ),
        (lambda: dnn.Adam(lambda step: 1.0).get_config(), TypeError, "cannot be put into a file"),
    ],
)
def test_what_makes_no_schedule_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_functions_are_asked_for_the_steps_of_training_only():
    asked = []

    def rate(step):
        asked.append(step)
        return 0.01

    make().fit(X, Y, epochs=3, batch_size=8, optimizer=dnn.Adam(rate))
    assert asked == list(range(15))


def test_divergence_names_the_rate_of_the_step():
    with pytest.raises(dnn.DivergenceError, match=r"it was 1e\+30"):
        make().fit(X, Y, epochs=500, optimizer=dnn.SGD(Step(1e30, every=10**6)))


def test_a_constant_costs_nothing_to_look_up():
    adam = dnn.Adam(0.1)
    assert adam.settings(5)[1] is adam.settings(9)[1]
    assert adam.settings()[1].shape == (1, 8)
