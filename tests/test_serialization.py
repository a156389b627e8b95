"""Model files: a network and its preprocessing come back, or one clear error does."""

import datetime
import json
import sys
import types

import numpy as np
import pytest
import safetensors

from dnncore._safefile import read_tensors, write_tensors
from dnncore.exceptions import ModelFormatError
from dnncore.serialization import load_network, save_network


class FakeNetwork:
    """Has the interface that model files need of a network, and nothing else."""

    def __init__(self, n_in, layers, dtype="float32", classes=None):
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.")
        self.n_in, self.layers, self.dtype, self.classes = n_in, list(layers), dtype, classes
        sizes = [n_in, *layers]
        shapes = [
            shape for i, o in zip(sizes[:-1], sizes[1:], strict=True) for shape in [(i, o), (o,)]
        ]
        self.params = np.zeros(sum(int(np.prod(shape)) for shape in shapes), dtype)
        self.views, start = [], 0
        for k, shape in enumerate(shapes):
            stop = start + int(np.prod(shape))
            name = f"layers.{k // 2}.{'bias' if k % 2 else 'weight'}"
            self.views.append((name, self.params[start:stop].reshape(shape)))
            start = stop

    def get_config(self):
        return {
            "n_in": self.n_in,
            "layers": self.layers,
            "dtype": self.dtype,
            "classes": self.classes,
        }

    @classmethod
    def from_config(cls, config):
        return cls(config["n_in"], config["layers"], config["dtype"], config["classes"])

    def named_parameters(self):
        return list(self.views)


@pytest.fixture(autouse=True)
def fake_network_module(monkeypatch):
    module = types.SimpleNamespace(Network=FakeNetwork)
    monkeypatch.setitem(sys.modules, "dnncore.network", module)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def make_network(dtype="float32", classes=None):
    net = FakeNetwork(4, [3] * 12, dtype, classes)
    net.params[:] = np.random.default_rng(0).standard_normal(net.params.size)
    return net


def rewrite(path, *, tensors=None, drop=(), **metadata):
    """Change a model file and give it a checksum that fits."""
    old_tensors, old_metadata = read_tensors(path)
    merged = {k: v for k, v in (old_tensors | (tensors or {})).items() if k not in drop}
    text = {k: v for k, v in (old_metadata | metadata).items() if v is not None}
    write_tensors(path, merged, text, allow_nonfinite=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_network_comes_back(path, dtype):
    net = make_network(dtype, classes=["ü", "\ud800", "a\x00b", '"', "\\"])
    save_network(net, path)
    loaded, preprocessing = load_network(str(path))
    assert type(loaded) is FakeNetwork and preprocessing is None
    assert loaded.get_config() == net.get_config()
    assert loaded.params.dtype == net.params.dtype
    assert loaded.params.tobytes() == net.params.tobytes()
    # Twelve layers: sorted by name, layer 10 comes before layer 2.
    for (name, view), (_, original) in zip(loaded.views, net.views, strict=True):
        assert np.shares_memory(view, loaded.params), name
        np.testing.assert_array_equal(view, original)


def test_metadata_says_what_the_file_is(path):
    save_network(make_network(), path, preprocessing={})
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
        assert "layers.11.bias" in file.keys()  # noqa: SIM118
    assert metadata.keys() == {
        "format", "format_version", "dnncore_version", "created", "config", "preprocessing",
        "sha256",
    }  # fmt: skip
    assert metadata["format"] == "dnncore" and metadata["format_version"] == "1.0"
    config = json.loads(metadata["config"])
    assert config == make_network().get_config()
    assert metadata["config"] == json.dumps(config, sort_keys=True, separators=(",", ":"))
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(metadata["created"])
    assert abs(age.total_seconds()) < 60


CYCLE = {}
CYCLE["self"] = CYCLE
DEEP = json.loads("[" * 99 + "0" + "]" * 99)
PREPROCESSING = {
    "scaler": {"mean": np.arange(3.0), "scale": np.ones((2, 3), "f4", order="F")},
    "columns": ["a", "b", None, True, False, 0, -(2**70), 0.1, 1e-300, "ü\ud800"],
    "nested": [[[{"x": [np.arange(4)[::2]]}]], {}, []],
    "mask": np.array([1, 0], "u1"),
    "nothing": None,
}


def test_preprocessing_comes_back(path):
    save_network(make_network(), path, preprocessing=PREPROCESSING)
    loaded = load_network(path)[1]
    assert loaded.keys() == PREPROCESSING.keys()
    assert loaded["columns"] == PREPROCESSING["columns"]
    assert [type(v) for v in loaded["columns"]] == [type(v) for v in PREPROCESSING["columns"]]
    assert loaded["nothing"] is None and loaded["nested"][1:] == [{}, []]
    for found, given in [
        (loaded["scaler"]["mean"], PREPROCESSING["scaler"]["mean"]),
        (loaded["scaler"]["scale"], PREPROCESSING["scaler"]["scale"]),
        (loaded["nested"][0][0][0]["x"][0], np.array([0, 2])),
        (loaded["mask"], PREPROCESSING["mask"]),
    ]:
        assert found.dtype == given.dtype and found.flags.writeable
        np.testing.assert_array_equal(found, given)


def test_numpy_scalars_and_tuples_become_python_values(path):
    given = {"a": (np.float32(0.5), np.int64(3), np.True_, np.float64(0.1), np.str_("s"))}
    save_network(make_network(), path, preprocessing=given)
    loaded = load_network(path)[1]
    assert loaded == {"a": [0.5, 3, True, 0.1, "s"]}
    assert [type(v) for v in loaded["a"]] == [float, int, bool, float, str]


def test_depth_that_saves_also_loads(path):
    save_network(make_network(), path, preprocessing={"x": DEEP})
    assert load_network(path)[1] == {"x": DEEP}
    with pytest.raises(ValueError, match="nested more than 100 levels"):
        save_network(make_network(), path, preprocessing={"x": [[DEEP]]})


def test_large_preprocessing_fits_as_an_array(path):
    mean = np.random.default_rng(0).standard_normal(200_000)
    save_network(make_network(), path, preprocessing={"mean": mean})
    np.testing.assert_array_equal(load_network(path)[1]["mean"], mean)
    with pytest.raises(ValueError, match="store long lists as arrays"):
        save_network(make_network(), path, preprocessing={"mean": mean.tolist()})


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (float("nan"), ValueError, r"preprocessing\['x'\] is nan"),
        ([1.0, np.float32("inf")], ValueError, r"preprocessing\['x'\]\[1\] is inf"),
        (np.array([np.nan]), ValueError, r"preprocessing\['x'\] holds NaN"),
        (np.array(["a"]), TypeError, r"preprocessing\['x'\] must be float32.*got <U1"),
        (np.empty(0), ValueError, r"preprocessing\['x'\] must have 1 to 4 dimensions"),
        ({1: 2}, TypeError, r"preprocessing\['x'\] has the key 1; keys must be text"),
        ({"__ndarray__": "a"}, TypeError, "'__ndarray__' is taken"),
        (object(), TypeError, "is of type object"),
        ({1, 2}, TypeError, "is of type set"),
        (1j, TypeError, "is of type complex"),
        (CYCLE, ValueError, "nested more than 100 levels"),
    ],
)
def test_preprocessing_that_cannot_be_saved(path, value, error, match):
    with pytest.raises(error, match=match):
        save_network(make_network(), path, preprocessing={"x": value})
    assert not path.exists()


def test_arrays_in_the_configuration_are_refused(path):
    with pytest.raises(TypeError, match=r"config\['classes'\] is of type ndarray"):
        save_network(make_network(classes=np.arange(3)), path)


def test_diverged_network_does_not_replace_a_good_file(path):
    net = make_network()
    save_network(net, path)
    good = net.params.copy()
    net.params[5] = np.nan
    with pytest.raises(ValueError, match="'layers.0.weight' holds NaN or infinity"):
        save_network(net, path)
    np.testing.assert_array_equal(load_network(path)[0].params, good)


# --- versions ---------------------------------------------------------------------------------


def test_newer_major_version_names_what_is_needed(path):
    save_network(make_network(), path)
    rewrite(path, format_version="2.0", dnncore_version="3.1.4")
    with pytest.raises(
        ModelFormatError, match=r"version 2\.0 .* reads up to 1\.x; upgrade .* 3\.1\.4"
    ):
        load_network(path)


def test_newer_minor_version_loads_if_it_can(path):
    net = make_network()
    save_network(net, path)
    rewrite(path, format_version="1.7", dnncore_version="1.9", novelty="text")
    assert load_network(path)[0].params.tobytes() == net.params.tobytes()
    rewrite(path, config='{"layers":"of a new kind"}')
    with pytest.raises(ModelFormatError, match=r"written by dnncore 1\.9.*try upgrading"):
        load_network(path)


@pytest.mark.parametrize("version", ["", "1", "1.", "1.0.0", "v1.0", "-1.0", "1.0\n", "9" * 5000])
def test_malformed_version(path, version):
    save_network(make_network(), path)
    rewrite(path, format_version=version)
    with pytest.raises(ModelFormatError, match="format_version"):
        load_network(path)


# --- files that are sound but hold no sound network ---------------------------------------------

CONFIG = json.dumps(make_network().get_config())
REF = '{"a":{"__ndarray__":"preprocessing.0"}}'
WRONG = {
    "foreign": ({"format": "pt"}, "not a dnncore model"),
    "no format": ({"format": None}, "not a dnncore model"),
    "no config": ({"config": None}, "no config"),
    "config not JSON": ({"config": "{"}, "config is not valid JSON"),
    "config a list": ({"config": "[]"}, "config is not a JSON object"),
    "config deep": ({"config": "[" * 200_000}, "config is not valid JSON"),
    "config overflow": ({"config": '{"n_in":1e999}'}, "holds the number 1e999"),
    "config NaN": ({"config": '{"n_in":NaN}'}, "holds the number NaN"),
    "config duplicate": ({"config": '{"n_in":1,"n_in":1}'}, "a key twice"),
    "config empty": ({"config": "{}"}, "configuration is not valid"),
    "config types": ({"config": CONFIG.replace("4", '"4"')}, "configuration is not valid"),
    "config null": ({"config": CONFIG.replace("4", "null")}, "configuration is not valid"),
    "config negative": ({"config": CONFIG.replace("4", "-4")}, "configuration is not valid"),
    "config dtype": ({"config": CONFIG.replace("float32", "object")}, "got 'object'"),
    "config huge": ({"config": CONFIG.replace("4", str(2**48))}, "configuration is"),
    "shape": ({"config": CONFIG.replace("4", "5")}, r"shape \(5, 3\), and is .* \(4, 3\)"),
    "dtype": ({"config": CONFIG.replace("float32", "float64")}, "must be float64 .* is float32"),
    "more layers": ({"config": CONFIG.replace("[", "[3, ")}, "missing: layers.12.bias"),
    "fewer layers": ({"config": CONFIG.replace("[3, ", "[")}, "unknown: layers.11.bias"),
    "missing tensor": ({"drop": ["layers.0.bias"]}, "missing: layers.0.bias"),
    "unknown tensor": ({"tensors": {"rogue": np.ones(1)}}, "unknown: rogue"),
    "many unknown": ({"tensors": {f"x{i}": np.ones(1) for i in range(9)}}, "x2 and 6 more"),
    "NaN": ({"tensors": {"layers.0.bias": np.full(3, np.nan, "f4")}}, "holds NaN"),
    "stray array": ({"tensors": {"preprocessing.0": np.ones(1)}}, "unknown: preprocessing.0"),
    "preprocessing a list": ({"preprocessing": "[]"}, "preprocessing is not a JSON object"),
    "preprocessing deep": ({"preprocessing": '{"a":' + "[" * 101 + "]" * 101 + "}"}, "100 levels"),
    "missing array": ({"preprocessing": REF}, "missing tensor 'preprocessing.0'"),
    "array number": ({"preprocessing": '{"a":{"__ndarray__":0}}'}, "malformed"),
    "array and more": ({"preprocessing": REF.replace(":{", ':{"b":0,')}, "malformed"),
    "stolen parameter": ({"preprocessing": REF.replace("preprocessing.", "layers.")}, "malformed"),
    "array twice": (
        {
            "preprocessing": f'{{"a":{REF},"b":{REF}}}',
            "tensors": {"preprocessing.0": np.ones(1)},
        },
        "missing tensor 'preprocessing.0'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_sound_file_without_a_sound_network(path, name):
    changes, reason = WRONG[name]
    save_network(make_network(), path)
    rewrite(path, **changes)
    with pytest.raises(ModelFormatError, match=reason) as caught:
        load_network(path)
    assert path.name in str(caught.value) and len(str(caught.value)) < 600
