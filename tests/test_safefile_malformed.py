"""Malformed and hostile model files: each is refused for the right reason, cheaply."""

import hashlib
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from dnncore import _safefile
from dnncore._safefile import read_tensors
from dnncore.exceptions import ModelFormatError

DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
ZEROS = "0" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("malformed")


def seal(blob):
    """Put the right checksum into a file that has a place for one."""
    blob = DIGEST.sub(b'"sha256":"' + ZEROS.encode() + b'"', blob)
    digest = hashlib.sha256(blob).hexdigest()
    return blob.replace(ZEROS.encode(), digest.encode())


def craft(header, data=b"", *, length=None):
    """Build a sealed file; a mapping as header gets metadata with a checksum."""
    if isinstance(header, dict):
        header = {"__metadata__": {"sha256": ZEROS}} | header
        header = json.dumps(header, separators=(",", ":")).encode()
    prefix = (len(header) if length is None else length).to_bytes(8, "little")
    return seal(prefix + header + data)


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


def load(folder, blob, **options):
    path = folder / "crafted.safetensors"
    path.write_bytes(blob)
    return read_tensors(path, **options)


def test_truncation_at_every_length(folder):
    blob = craft({"a": entry(), "b": entry("U8", (3,), (8, 11))}, bytes(11))
    load(folder, blob)
    for length in range(len(blob)):
        with pytest.raises(ModelFormatError):
            load(folder, blob[:length])
    for extra in (b"\0", b" ", blob):
        with pytest.raises(ModelFormatError, match="truncated or extended"):
            load(folder, blob + extra)


# --- the corpus of malformed files ------------------------------------------------------------

HEADER = craft({"a": entry()})[8:]
META = b'"__metadata__":{"sha256":"' + ZEROS.encode() + b'"}'
BOMBS = {
    "80,000 tensors": b"{" + b",".join(b'"%d":[]' % i for i in range(80_000)) + b"}",
    "deep lists": b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "deep mappings": b'{"a":' + b'{"":' * 200_000 + b"0" + b"}" * 200_001,
    "many mappings": b'{"a":[' + b"{}," * 340_000 + b"{}]}",
    "long integers": b'{"a":[' + b",".join([b"9" * 4_000] * 250) + b"]}",
    "endless integer": b'{"a":' + b"9" * 1_000_000 + b"}",
    "much metadata": b'{"__metadata__":{'
    + b",".join(b'"%x":""' % i for i in range(90_000))
    + b"}}",
    "long string": b'{"' + b"\\ud800" * 170_000 + b'":0}',
}
MALFORMED = {
    "empty": (b"", "empty or truncated"),
    "one byte": (b"{", "empty or truncated"),
    "short": (bytes(9), "empty or truncated"),
    "no header": (bytes(8) + b"{}", "claims 0 bytes"),
    "huge header": (craft(HEADER, bytes(8), length=2**63), "claims 9223372036854775808"),
    "header past the end": (craft(HEADER, bytes(8), length=len(HEADER) + 9), "header claims"),
    "header over the limit": (craft(b"{" + b" " * 2**20 + b"}"), "at most 1048576"),
    "not UTF-8": (craft(b'{"\xff":0}'), "not UTF-8"),
    "not JSON": (craft(b"{abc}"), "not valid JSON"),
    "list": (craft(b"[{}]"), "not a JSON object"),
    "two values": (craft(b"{}{}"), "not valid JSON"),
    "leading space": (craft(b" " + HEADER, bytes(8)), "not a JSON object"),
    "trailing newline": (craft(HEADER + b"\n", bytes(8)), "not a JSON object"),
    "byte order mark": (craft(b"\xef\xbb\xbf" + HEADER, bytes(8)), "not a JSON object"),
    "control character": (craft(b'{"a\x01":0}'), "not valid JSON"),
    "duplicate tensor": (craft(b'{"a":0,"a":0}'), "key twice"),
    "duplicate field": (craft(b'{"a":{"dtype":"F32","dtype":"F64"}}'), "key twice"),
    "NaN": (craft(b'{"a":NaN}'), "holds the number NaN"),
    "infinity": (craft(b'{"a":-Infinity}'), "holds the number -Infinity"),
    "overflow": (craft(b'{"a":1e999}'), "holds the number 1e999"),
    "truncated data": (craft(HEADER, bytes(7)), "7 are there"),
    "trailing data": (craft(HEADER, bytes(9)), "9 are there"),
    "hole": (craft({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "8 is due"),
    "hole at the start": (craft({"a": entry(offsets=(4, 12))}, bytes(12)), "0 is due"),
    "overlap": (craft({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "8 is due"),
    "shared data": (craft({"a": entry(), "b": entry()}, bytes(8)), "8 is due"),
    "backwards": (craft({"a": entry(offsets=(8, 0))}, bytes(8)), "does not fit"),
    "shape mismatch": (craft({"a": entry(shape=(3,))}, bytes(8)), "does not fit"),
    "shape overflow": (craft({"a": entry(shape=(2**62, 4))}, bytes(8)), "does not fit"),
    "wraps to 64 bits": (
        craft({"a": entry(shape=(2**32, 2**30, 2), offsets=(0, 0))}),
        "does not fit",
    ),
    "huge empty shape": (craft({"a": entry(shape=(0, 2**60), offsets=(0, 0))}), "no valid shape"),
    "2**60 long": (craft({"a": entry(shape=(2**60,), offsets=(0, 2**62))}), "0 are there"),
    "2**63 long": (craft({"a": entry(shape=(2**63,))}, bytes(8)), "no valid shape"),
    "negative shape": (craft({"a": entry(shape=(-2,))}, bytes(8)), "no valid shape"),
    "two negatives": (craft({"a": entry(shape=(-2, -1))}, bytes(8)), "no valid shape"),
    "fraction": (craft({"a": entry(shape=(2.0,))}, bytes(8)), "holds the number 2.0"),
    "boolean shape": (craft({"a": entry("F64", (True,))}, bytes(8)), "no valid shape"),
    "text shape": (craft({"a": entry(shape="2")}, bytes(8)), "no valid shape"),
    "0-d": (craft({"a": entry("F64", ())}, bytes(8)), "no valid shape"),
    "100 dimensions": (craft({"a": entry("F64", (1,) * 100)}, bytes(8)), "no valid shape"),
    "no offsets": (craft({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "no more"),
    "negative offset": (craft({"a": entry(offsets=(-8, 0))}, bytes(8)), "data_offsets"),
    "three offsets": (craft({"a": entry(offsets=(0, 8, 8))}, bytes(8)), "data_offsets"),
    "null offsets": (craft({"a": entry() | {"data_offsets": None}}, bytes(8)), "data_offsets"),
    "unknown field": (craft({"a": entry(extra=1)}, bytes(8)), "no more"),
    "unknown dtype": (craft({"a": entry("F16", (4,))}, bytes(8)), "must have a dtype of F32"),
    "dtype list": (craft({"a": entry(["F32"])}, bytes(8)), "must have a dtype"),
    "object dtype": (craft({"a": entry("O", (1,))}, bytes(8)), "must have a dtype"),
    "NUL name": (craft({"a\0": entry()}, bytes(8)), "forbidden name"),
    "path name": (craft({"../a": entry()}, bytes(8)), "forbidden name"),
    "newline name": (craft({"a\n": entry()}, bytes(8)), "forbidden name"),
    "foreign digits": (craft({"\u0663": entry()}, bytes(8)), "forbidden name"),
    "long name": (craft({"a" * 129: entry()}, bytes(8)), "forbidden name"),
    "no name": (craft({"": entry()}, bytes(8)), "forbidden name"),
    "10,001 tensors": (craft({f"t{i}": 0 for i in range(10_001)}), "limit is 10000"),
    "metadata list": (craft({"__metadata__": []}), "not a mapping of text"),
    "metadata number": (craft(b"{" + META[:-1] + b',"a":1}}'), "not a mapping of text"),
    "half surrogate": (craft(b"{" + META[:-1] + b',"a":"\\ud800"}}'), "not a mapping of text"),
    "no metadata": (craft(b'{"a":' + json.dumps(entry()).encode() + b"}", bytes(8)), "checksum"),
    "no checksum": (craft({"__metadata__": {"a": "b"}}), "dnncore did not write"),
    "checksum in upper case": (craft({"__metadata__": {"sha256": "A" * 64}}), "no SHA-256"),
    "wrong checksum": (craft(HEADER, bytes(8))[:-1] + b"\1", "the file is damaged"),
    "spaced checksum": (craft(HEADER.replace(b'6":', b'6" :'), bytes(8)), "checksum"),
    "zip": (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(100), "not a safetensors file"),
    "pickle": (b"\x80\x04\x95cos\nsystem\n" + bytes(100), "not a safetensors file"),
    "script": (b"#!/bin/sh\nexit 1\n" * 9, "not a safetensors file"),
}


def test_the_crafted_files_are_sound_but_for_their_fault(folder):
    tensors, metadata = load(folder, craft(HEADER, bytes(8)))
    assert tensors["a"].tolist() == [0, 0] and metadata == {}
    assert load(folder, craft({})) == ({}, {})
    assert load(folder, craft(HEADER + b"   ", bytes(8)))[0].keys() == {"a"}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused(folder, name):
    blob, reason = MALFORMED[name]
    with pytest.raises(ModelFormatError, match=re.escape(reason)) as caught:
        load(folder, blob)
    assert "crafted.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", BOMBS)
def test_header_bomb_costs_little_memory(folder, name):
    header = BOMBS[name]
    assert len(header) <= 2**20
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError):
            load(folder, craft(header))
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_is_allocated_for_sizes_that_the_file_does_not_have(folder):
    blob = craft({"a": entry(shape=(2**40,), offsets=(0, 2**42))}, bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError):
            load(folder, blob)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_file_of_another_program_is_refused(folder):
    blob = safetensors.numpy.save({"a": np.ones(3)}, {"format": "pt"})
    with pytest.raises(ModelFormatError, match="dnncore did not write it"):
        load(folder, blob)


def test_oversized_file_is_refused_unread(folder):
    path = folder / "sparse"
    path.write_bytes(craft(HEADER, bytes(8)))
    os.truncate(path, 2**40)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match="1099511627776 bytes, more than max_bytes"):
            read_tensors(path)
        with pytest.raises(ModelFormatError, match="truncated or extended"):
            read_tensors(path, max_bytes=2**41)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    size = len(craft(HEADER, bytes(8)))
    load(folder, craft(HEADER, bytes(8)), max_bytes=size)
    with pytest.raises(ModelFormatError, match=f"max_bytes={size - 1}"):
        load(folder, craft(HEADER, bytes(8)), max_bytes=size - 1)


def change_while_loading(monkeypatch, change):
    """Call ``change`` between the reading of the header and of the data."""
    parse = _safefile.parse_header

    def parse_and_change(*arguments):
        change()
        return parse(*arguments)

    monkeypatch.setattr(_safefile, "parse_header", parse_and_change)


def test_file_changed_while_it_is_read(folder, monkeypatch):
    path = folder / "crafted.safetensors"
    blob = craft(HEADER, bytes(8))
    for change, reason in [
        (lambda: os.truncate(path, len(blob) - 1), "shrank"),
        (lambda: os.truncate(path, len(blob) + 1), "grew"),
        (lambda: path.write_bytes(blob[:-1] + b"\1"), "damaged"),
    ]:
        with monkeypatch.context() as patch:
            change_while_loading(patch, change)
            with pytest.raises(ModelFormatError, match=reason):
                load(folder, blob)


def test_file_replaced_while_it_is_read_loads_as_it_was(folder, monkeypatch):
    other = folder / "other"
    other.write_bytes(craft({"b": entry()}, bytes(8)))
    change_while_loading(monkeypatch, lambda: os.replace(other, folder / "crafted.safetensors"))
    assert load(folder, craft(HEADER, bytes(8)))[0].keys() == {"a"}


# --- generated files --------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-2, 9), st.integers(), st.sampled_from([2**31, 2**32, 2**63, 2**64]), st.floats()
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
FIELDS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64", "U8", "F16"]) | JSON,
        "shape": st.lists(NUMBERS, max_size=5) | JSON,
        "data_offsets": st.lists(st.integers(0, 16), min_size=2, max_size=2) | JSON,
    }
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b.c", "__metadata__"]) | st.text(), FIELDS | JSON, max_size=3
)


def assert_loads_or_refused(folder, blob):
    try:
        tensors, metadata = load(folder, blob, allow_nonfinite=True)
    except ModelFormatError:
        return
    assert sum(array.nbytes for array in tensors.values()) < len(blob)
    assert all(type(value) is str for value in metadata.values())


@settings(max_examples=200, deadline=None)
@given(header=HEADERS, size=st.integers(0, 16))
def test_generated_headers(folder, header, size):
    assert_loads_or_refused(folder, craft(header, bytes(size)))


@settings(max_examples=150, deadline=None)
@given(blob=st.binary(max_size=64), header=st.booleans())
def test_generated_bytes(folder, blob, header):
    assert_loads_or_refused(folder, craft(b"{" + blob + b"}") if header else blob)


EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.binary(max_size=6)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(edits=EDITS, resealed=st.booleans(), relength=st.booleans())
def test_mutated_files(folder, edits, resealed, relength):
    original = craft({"a": entry(), "b.c": entry("U8", (3, 1), (8, 11))}, bytes(11))
    blob = bytearray(original)
    for position, removed, inserted in edits:
        position %= len(blob) + 1
        blob[position : position + removed] = inserted
    if relength:  # let the header take all but the data, so that its parser is reached
        blob[:8] = max(len(blob) - 19, 0).to_bytes(8, "little")
    blob = bytes(blob)
    if not resealed and blob != original:
        with pytest.raises(ModelFormatError):
            load(folder, blob)
    else:
        assert_loads_or_refused(folder, seal(blob))
