"""Interrupts, threads, forks and memory: what happens around training."""

import os
import platform
import shlex
import signal
import subprocess
import sysconfig
import threading
import time
import tracemalloc

import numpy as np
import pytest

import dnncore as dnn
from dnncore import prediction

needs_linux = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc/self/statm")
needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="puts its own malloc before glibc's"
)


def small(seed=0):
    return dnn.Network(8, [dnn.Dense(16, "relu"), dnn.Dense(2)], loss="mse", seed=seed)


def examples(rows=64, n_in=8, n_out=2):
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((rows, n_in), dtype=np.float32),
        rng.standard_normal((rows, n_out), dtype=np.float32),
    )


# Ctrl-C


class Interrupt:
    """Sends this process a SIGINT after a while, once it is ready for it; remembers when."""

    def __init__(self, delay, ready=lambda: True):
        self.timer = threading.Timer(delay, self.send)
        self.ready = ready

    def send(self):
        while not self.ready():
            time.sleep(0.01)
        self.sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *error):
        self.timer.join()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("delay", [0.02, 0.2])
def test_interrupt_stops_within_an_epoch(delay, n_threads):
    # An epoch of one wide layer takes many seconds: only its slices can notice the signal.
    net = dnn.Network(1, [dnn.Dense(8192, "relu"), dnn.Dense(1)], loss="mse")
    X, y = np.ones((3_000_000, 1), np.float32), np.zeros(3_000_000, np.float32)
    before = net.params.copy()

    def ready():
        return delay < 0.1 or (net.params != before).any()

    with Interrupt(delay, ready) as interrupt, pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=1000, batch_size=64, optimizer="sgd", n_threads=n_threads)
    assert time.perf_counter() - interrupt.sent < 2
    assert ready()
    assert np.isfinite(net.params).all()
    history = net.fit(X[:100], y[:100], epochs=1)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(net.predict(X[:100])).all()


@pytest.mark.parametrize("method", ["predict", "evaluate"])
def test_interrupt_stops_a_long_prediction(method):
    net = dnn.Network(1, [dnn.Dense(8192, "relu"), dnn.Dense(1)], loss="mse")
    X, y = np.ones((3_000_000, 1), np.float32), np.zeros(3_000_000, np.float32)
    arguments = (X,) if method == "predict" else (X, y)
    # It may take as long as a few chunks, of which the whole has 46, on this machine and build.
    chunk = prediction.CHUNK_WORK // (2 * 8192)
    began = time.perf_counter()
    getattr(net, method)(*(a[:chunk] for a in arguments))
    allowed = 0.5 + 6 * (time.perf_counter() - began)
    with Interrupt(0.1) as interrupt, pytest.raises(KeyboardInterrupt):
        while True:  # on whatever machine, the signal comes in the middle of one
            getattr(net, method)(*arguments)
    assert time.perf_counter() - interrupt.sent < allowed
    assert net.predict(X[:10]).shape == (10,)


# Threads


class Pause(dnn.Callback):
    """Holds training, in the middle of it, until told to go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def on_progress(self, network, epoch, done, loss):
        self.reached.set()
        assert self.go_on.wait(60)


def test_a_second_thread_may_not_train_the_same_network():
    net, (X, y), pause = small(), examples(), Pause()
    other = net.copy()
    thread = threading.Thread(target=net.fit, args=(X, y), kwargs={"callbacks": [pause]})
    thread.start()
    try:
        assert pause.reached.wait(60)
        d_out = np.zeros((64, 2), np.float32)
        for call in (
            lambda: net.fit(X, y),
            lambda: net.train_step(X, y),
            lambda: net.forward(X),
            lambda: net.step(),
        ):
            with pytest.raises(RuntimeError, match="being trained by another thread"):
                call()
        with pytest.raises(RuntimeError, match="forward first"):
            net.backward(d_out)
        assert np.isfinite(net.predict(X)).all()  # looking on is allowed
        assert np.isfinite(net.evaluate(X, y)["loss"])
        assert np.isfinite(net.copy().predict(X)).all()
    finally:
        pause.go_on.set()
        thread.join()
    other.fit(X, y)
    np.testing.assert_array_equal(net.params, other.params)
    net.fit(X, y, epochs=1)


def test_a_callback_may_train_its_own_network():
    net, (X, y) = small(), examples()

    class Extra(dnn.Callback):
        def on_epoch_end(self, network, epoch, logs):
            network.train_step(X, y)
            network.evaluate(X, y)

    history = net.fit(X, y, epochs=3, callbacks=[Extra()])
    assert len(history.history["loss"]) == 3


def test_predictions_from_many_threads_are_the_same():
    net = dnn.Network(64, [dnn.Dense(130, "gelu"), dnn.Dense(5)])
    X = examples(700, 64)[0]
    expected, wrong = net.predict_proba(X), []

    def look():
        for _ in range(20):
            if not np.array_equal(net.predict_proba(X), expected):
                wrong.append(1)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_trains(run_python):
    code = """
import os, signal, numpy as np, dnncore as dnn
rng = np.random.default_rng(0)
X, y = rng.standard_normal((600, 64)), rng.standard_normal((600, 4))
net = dnn.Network(64, [dnn.Dense(200, "relu"), dnn.Dense(4)], loss="mse")
net.fit(X, y, epochs=1, n_threads=3)
rng.standard_normal((500, 500)) @ rng.standard_normal((500, 500))  # BLAS has threads of its own
expected = net.copy()
expected.fit(X, y, epochs=1, n_threads=3)
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that hangs
        net.fit(X, y, epochs=1, n_threads=3)
        same = np.array_equal(net.params, expected.params)
        same &= np.array_equal(net.predict(X), expected.predict(X))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
net.fit(X, y, epochs=1, n_threads=3)
print(np.array_equal(net.params, expected.params))
"""
    assert run_python(code) == "True"


# Memory

COUNTING_MALLOC = """
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static unsigned long count;
static void add(void) { __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED); }
unsigned long allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }
void *malloc(size_t n) { add(); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { add(); return __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { add(); return __libc_realloc(old, n); }
void *memalign(size_t to, size_t n) { add(); return __libc_memalign(to, n); }
void *aligned_alloc(size_t to, size_t n) { add(); return __libc_memalign(to, n); }
int posix_memalign(void **p, size_t to, size_t n) {
    add();
    *p = __libc_memalign(to, n);
    return *p ? 0 : 12;
}
"""


@pytest.fixture(scope="module")
def counting_malloc(tmp_path_factory):
    """A library to load before all others, whose ``allocations()`` tells how many there were."""
    folder = tmp_path_factory.mktemp("malloc")
    source, library = folder / "counting.c", folder / "counting.so"
    source.write_text(COUNTING_MALLOC)
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", source, "-o", library], check=True)
    return library


@needs_glibc
@pytest.mark.parametrize("path", ["own", "blas"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_step_allocates_nothing(counting_malloc, run_python, path, n_threads):
    code = f"""
import ctypes, numpy as np, dnncore as dnn
from dnncore import _divergence, _kernels, training
count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_ulong
rng = np.random.default_rng(0)
X, y = rng.standard_normal((500, 100)), rng.standard_normal((500, 100))
_kernels._force_matmul_path({path!r})
block = dnn.Residual([dnn.LayerNorm(), dnn.Dense(300, "relu"), dnn.GaussianNoise(0.1)])
layers = [dnn.Dense(300, "gelu"), dnn.Dropout(0.1), dnn.BatchNorm(), block, dnn.PReLU(),
          dnn.Blend("silu"), dnn.RMSNorm(), dnn.AlphaDropout(0.1), dnn.Dense(100)]
net = dnn.Network(100, layers, loss="mse", dtype="float64")
seen = []
class Count(dnn.Callback):  # the engine's work lies between these two
    def on_epoch_begin(self, network, epoch): self.before = count()
    def on_progress(self, network, epoch, done, loss):
        if done == 1: seen.append(count() - self.before)
for _ in range(300):
    net.train_step(X[:2], y[:2])  # counters below 257 are objects that exist already
training.SLICE_SECONDS = _divergence.KEEP_SECONDS = 1e9
counter = Count()
few = 2 if {path!r} == "own" else 125  # OpenBLAS allocates for smaller products
for batch in (500, 250, few) * 2:
    net.fit(X, y, epochs=1, batch_size=batch, shuffle=False, callbacks=[counter],
            n_threads={n_threads})
print(*seen)
"""
    counts = run_python(code, LD_PRELOAD=counting_malloc, PYTHONMALLOC="malloc").split()
    one_step, two_steps, many_steps = map(int, counts[3:])
    assert one_step > 0  # Python's own few, around the call
    assert one_step == two_steps == many_steps


@needs_glibc
@pytest.mark.parametrize("n_threads", [1, 3])
def test_no_kind_of_step_allocates(counting_malloc, run_python, n_threads):
    # In one run of the engine each: 10 steps, and 100 of them in ten epochs.
    code = f"""
import ctypes, numpy as np, scipy.sparse, dnncore as dnn
from dnncore import _divergence, training
count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_ulong
seen = []
def counted(run):
    def call(*arguments, **more):
        before = count()
        run(*arguments, **more)
        seen.append(count() - before)
    return call
dnn.Network._run = property(lambda network: counted(network._program.run))
training.SLICE_SECONDS = _divergence.KEEP_SECONDS = 1e9
rng = np.random.default_rng(0)
X, y = rng.standard_normal((500, 60)), rng.integers(5, size=500)
sparse, weight = scipy.sparse.random(500, 60, density=0.1, format="csr"), np.linspace(0, 1, 500)
plain = [dnn.Dense(40, "relu"), dnn.Dense(5)]
bounded = [dnn.Dense(40, "relu", max_norm=1.0, l1=1e-3), dnn.Dense(5)]
clipped = dnn.SGD(0.1, clip_norm=0.5)
cases = dict(
    plain=(plain, X, dict()),
    in_order=(plain, X, dict(shuffle=False)),
    batch_norm=([dnn.Dense(40), dnn.BatchNorm(), dnn.Activation("relu"), dnn.Dense(5)], X, dict()),
    dropout=([dnn.Dropout(0.1), *plain], X, dict()),
    sparse=(plain, sparse, dict()),
    weights=(plain, X, dict(sample_weight=weight)),
    clipping=(plain, X, dict(optimizer=clipped)),
    accumulation=(plain, X, dict(batch_size=25, accumulate=2)),
    both=(plain, sparse, dict(batch_size=25, accumulate=2, optimizer=clipped)),
    schedule=(plain, X, dict(optimizer=dnn.Adam(dnn.schedules.Cosine(1e-3)))),
    penalties=(bounded, X, dict()),
    moving_average=(plain, X, dict(averaging=dnn.EMA())),
    epoch_average=(plain, X, dict(averaging=dnn.SWA(start=0))),
)
for name, (layers, inputs, settings) in cases.items():
    net = dnn.Network(60, layers)
    settings = dict(batch_size=50, n_threads={n_threads}) | settings
    for epochs in (10, 1, 10):
        net.fit(inputs, y, epochs=epochs, **settings)
    assert len(seen) == 3 and net._position.step == 210
    print(name, *seen[1:])
    seen.clear()
"""
    lines = run_python(code, LD_PRELOAD=counting_malloc, PYTHONMALLOC="malloc").splitlines()
    assert len(lines) == 13
    for line in lines:
        name, ten_steps, hundred_steps = line.split()
        assert ten_steps == hundred_steps, name


@needs_linux
def test_summary_says_how_much_memory_training_takes(run_python):
    code = """
import os, re, sys, numpy as np, dnncore as dnn
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def make(wide):
    return dnn.Network(700, [dnn.Dense(wide, "gelu"), dnn.Dense(wide, "relu"), dnn.Dense(10)])
rng = np.random.default_rng(0)
X, y = rng.standard_normal((2048, 700), dtype=np.float32), rng.integers(10, size=2048)
make(300).fit(X, y, epochs=1, batch_size=2048)  # what the process needs once
class Look(dnn.Callback):
    def on_epoch_end(self, network, epoch, logs): print(resident() - before)
before = resident()
net = make(2000)
net.fit(X, y, epochs=1, batch_size=2048, callbacks=[Look()])
print(re.search(r"batches of 2048: ([0-9.]+) MiB", net.summary(2048))[1])
"""
    real, predicted = run_python(code).split()
    assert float(real) / 2**20 == pytest.approx(float(predicted), rel=0.1)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
def test_predict_takes_little_memory_beside_its_result(loss):
    rows = 2_000_000
    net = dnn.Network(4, [dnn.Dense(8, "relu"), dnn.Dense(10)], loss=loss)
    X = np.zeros((rows, 4))
    X[-1] = 1
    tracemalloc.start()
    try:
        result = net.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(result) == rows
    assert peak < result.nbytes + 2**24
    np.testing.assert_array_equal(result[-1:], net.predict(X[-1:]))
    X[1_500_000, 2] = np.nan
    with pytest.raises(ValueError, match=r"first at index \(1500000, 2\)"):
        net.predict(X)


HUGE = 2**31 + 5


@pytest.mark.parametrize(
    "call",
    [
        lambda net, X, y: net.fit(X, y),
        lambda net, X, y: net.train_step(X, y),
        lambda net, X, y: net.evaluate(X, y),
        lambda net, X, y: net.fit(np.zeros((1, 8)), y),
        lambda net, X, y: net.fit(np.zeros((1, 8)), [[0, 0]], sample_weight=y[:, 0]),
        lambda net, X, y: net.predict(X),
        lambda net, X, y: net.forward(X),
        lambda net, X, y: dnn.Dense(HUGE),
        lambda net, X, y: dnn.Network(HUGE, [dnn.Dense(1)]),
        lambda net, X, y: dnn.Network(2**16, [dnn.Dense(2**16)]),
    ],
)
def test_huge_sizes_are_refused_before_anything_is_allocated(call):
    X = np.broadcast_to(np.float32(0), (HUGE, 8))
    y = np.broadcast_to(np.float32(0), (HUGE, 2))
    net = small()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"2147483647"):
            call(net, X, y)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
