"""Arrays and text in a file: round trips, damage, odd paths, and no code run by a load."""

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnncore import _safefile
from dnncore._safefile import read_tensors, write_tensors
from dnncore.exceptions import ModelFormatError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("safefile")


def small_arrays():
    rng = np.random.default_rng(7)
    return {
        "layers.0.weight": rng.standard_normal((3, 4)).astype("f4"),
        "layers.0.bias": rng.standard_normal(4),
        "counts": np.arange(-2, 3),
        "mask": np.arange(5, dtype="u1"),
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


# --- round trips ------------------------------------------------------------------------------


def test_round_trip(folder):
    path = folder / "small.safetensors"
    metadata = {"format": "x", "text": 'ü "quoted" \x00 "sha256":"0"', "": ""}
    write_tensors(path, small_arrays(), metadata)
    tensors, found = read_tensors(path)
    assert found == metadata
    assert_same(tensors, small_arrays())
    for array in tensors.values():
        assert array.flags.writeable and array.flags.aligned and array.flags.owndata
        assert array.flags.c_contiguous and array.dtype.isnative


def test_any_safetensors_tool_reads_the_files(folder):
    path = folder / "interop.safetensors"
    write_tensors(path, small_arrays(), {"format": "x"})
    assert_same(safetensors.numpy.load_file(path), small_arrays())
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["format"] == "x"


LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "transposed": lambda a: a.T,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "misaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
def test_round_trip_of_every_memory_layout(folder, layout, dtype, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for shape in [(3,), (2, 3), (4, 3, 2), (2, 3, 4, 5)]:
        array = LAYOUTS[layout](np.arange(np.prod(shape)).reshape(shape).astype(dtype))
        write_tensors(folder / "layout", {"a": array}, {})
        np.testing.assert_array_equal(read_tensors(folder / "layout")[0]["a"], array)


@settings(max_examples=100, deadline=None)
@given(
    arrays=st.dictionaries(
        st.from_regex(_safefile.TENSOR_NAME, fullmatch=True).filter(lambda n: n != "__metadata__"),
        st.sampled_from(["<f4", "<f8", "<i8", "u1"]).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=4))
        ),
        min_size=1,
        max_size=4,
    ),
    metadata=st.dictionaries(st.text(max_size=8), st.text(), max_size=4),
)
def test_round_trip_of_anything_allowed(folder, arrays, metadata):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        write_tensors(folder / "any", arrays, metadata, allow_nonfinite=True)
    tensors, found = read_tensors(folder / "any", allow_nonfinite=True)
    assert found == metadata
    assert_same(tensors, arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_need_permission(folder, value):
    array = np.array([1.0, value])
    path = folder / "nonfinite"
    with pytest.raises(ValueError, match="'a' holds NaN or infinity"):
        write_tensors(path, {"a": array}, {})
    assert not path.exists()
    write_tensors(path, {"a": array}, {}, allow_nonfinite=True)
    with pytest.raises(ModelFormatError, match="'a' holds NaN or infinity"):
        read_tensors(path)
    np.testing.assert_array_equal(read_tensors(path, allow_nonfinite=True)[0]["a"], array)
    path.unlink()


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "match"),
    [
        ({"a/b": np.ones(1)}, {}, ValueError, "name must be"),
        ({"": np.ones(1)}, {}, ValueError, "name must be"),
        ({"é": np.ones(1)}, {}, ValueError, "name must be"),
        ({"a" * 129: np.ones(1)}, {}, ValueError, "name must be"),
        ({"__metadata__": np.ones(1)}, {}, ValueError, "name must be"),
        ({1: np.ones(1)}, {}, ValueError, "name must be"),
        ({"a": [1.0]}, {}, TypeError, "NumPy array; got list"),
        ({"a": np.ones(1, "f2")}, {}, TypeError, "got float16"),
        ({"a": np.ones(1, "i4")}, {}, TypeError, "got int32"),
        ({"a": np.array([object()])}, {}, TypeError, "got object"),
        ({"a": np.array(3.0)}, {}, ValueError, r"got shape \(\)"),
        ({"a": np.ones((2, 0))}, {}, ValueError, r"got shape \(2, 0\)"),
        ({"a": np.ones((1,) * 5)}, {}, ValueError, "1 to 4 dimensions"),
        (
            {f"t{i}": np.ones(1, "u1") for i in range(10_001)},
            {},
            ValueError,
            "1 to 10000 tensors; got 10001",
        ),
        ({}, {}, ValueError, "1 to 10000 tensors; got 0"),
        ({"a": np.ones(1)}, {"sha256": ""}, ValueError, "taken by the checksum"),
        ({"a": np.ones(1)}, {"a": 1}, TypeError, "Unicode text"),
        ({"a": np.ones(1)}, {"a": "\ud800"}, TypeError, "Unicode text"),
        (
            {"a": np.ones(1)},
            {"a": "x" * 2**20},
            ValueError,
            "limit is 1048576; store long lists as arrays",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(folder, tensors, metadata, error, match):
    with pytest.raises(error, match=match):
        write_tensors(folder / "refused", tensors, metadata)
    assert not (folder / "refused").exists()


# --- damage -----------------------------------------------------------------------------------


def assert_flips_detected(path, positions):
    blob = path.read_bytes()
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for position, mask in positions:
            os.pwrite(descriptor, bytes([blob[position] ^ mask]), position)
            with pytest.raises(ModelFormatError):
                read_tensors(path)
            os.pwrite(descriptor, blob[position : position + 1], position)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == blob
    read_tensors(path)


def test_every_header_byte_flipped(folder):
    path = folder / "flip"
    write_tensors(path, small_arrays(), {"format": "x"})
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    masks = (1, 2, 4, 8, 16, 32, 64, 128, 255)
    assert_flips_detected(path, [(i, mask) for i in range(header) for mask in masks])


def test_4096_single_bit_flips_all_detected(folder):
    path = folder / "rot"
    rng = np.random.default_rng(3)
    write_tensors(path, {"a": rng.standard_normal((100, 250)).astype("f4")}, {})
    bits = rng.choice(8 * path.stat().st_size, size=4096, replace=False)
    assert_flips_detected(path, [(int(bit) // 8, 1 << int(bit) % 8) for bit in bits])


# --- paths ------------------------------------------------------------------------------------


@contextlib.contextmanager
def unprivileged():
    """Drop the right of the superuser to ignore permissions, if the tests run as one."""
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)


def test_missing_file_and_folder(folder):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_tensors(folder / "absent")
    with pytest.raises(IsADirectoryError, match="got a folder"):
        read_tensors(folder)


def test_symbolic_links(folder):
    write_tensors(folder / "small", small_arrays(), {})
    (folder / "link").symlink_to("small")
    assert_same(read_tensors(folder / "link")[0], small_arrays())
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_tensors(folder / "loop")


def test_pipe_and_device_are_refused_without_waiting(folder):
    os.mkfifo(folder / "pipe")
    for path in (folder / "pipe", "/dev/zero"):
        with pytest.raises(ModelFormatError, match="not a regular file"):
            read_tensors(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", ""])
def test_impossible_file_names(name):
    with pytest.raises(OSError):
        read_tensors(name)


@pytest.mark.parametrize("path", [3, None, ["a"]])
def test_paths_of_a_wrong_type(path):
    with pytest.raises(TypeError):
        read_tensors(path)


def test_unreadable_file():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "secret"
        write_tensors(path, small_arrays(), {})
        os.chmod(name, 0o755)
        path.chmod(0)
        with unprivileged(), pytest.raises(PermissionError, match="secret"):
            read_tensors(path)


def test_no_descriptor_is_left_open(folder):
    path = folder / "leak"
    write_tensors(path, small_arrays(), {})
    (folder / "junk").write_bytes(b"junk" * 9)
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        read_tensors(path)
        for bad in (folder / "junk", folder, folder / "absent", "/dev/zero"):
            with pytest.raises((ModelFormatError, OSError)):
                read_tensors(bad)
    assert len(os.listdir("/dev/fd")) == before


AUDIT = """
import sys
from dnncore._safefile import read_tensors
from dnncore.exceptions import ModelFormatError

def load(path):
    try:
        read_tensors(path)
    except ModelFormatError:
        pass

for path in sys.argv[1:]:  # whatever is imported late is imported now
    load(path)
events = []
sys.addaudithook(lambda event, arguments: events.append((event, *map(str, arguments[:1]))))
for path in sys.argv[1:]:
    load(path)
seen = list(events)
exec("1")
print(*seen, sep="\\n")
assert any(event[0] == "exec" for event in events)  # the hook would have noticed
"""


def test_loading_only_opens_the_file(folder):
    good, bad = folder / "good", folder / "bad"
    write_tensors(good, small_arrays(), {"a": "__import__('os').abort()"})
    bad.write_bytes(good.read_bytes()[:-1] + b"!")
    result = subprocess.run(
        [sys.executable, "-c", AUDIT, good, bad], capture_output=True, text=True, check=True
    )
    events = [ast.literal_eval(line) for line in result.stdout.splitlines()]
    # One open by name for each file; wrapping its descriptor counts as another.
    assert [event for event in events if not event[1].isdigit()] == [
        ("open", str(path)) for path in (good, bad)
    ]
    assert {event[0] for event in events} == {"open"}
