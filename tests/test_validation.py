"""The gate: what passes it, what does not, and what is said then."""

import decimal
import fractions

import numpy as np
import pytest
import scipy.sparse

from dnncore import _validation as v

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
MATRIX = np.arange(6.0).reshape(2, 3)


def misaligned(array):
    """The same values, one byte off."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    result = memory[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert not result.flags.aligned
    return result


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return MATRIX


ACCEPTED = {
    "float64": MATRIX,
    "float32": MATRIX.astype("f4"),
    "float16": MATRIX.astype("f2"),
    "long double": MATRIX.astype(np.longdouble),
    "int8": MATRIX.astype("i1"),
    "uint64": MATRIX.astype("u8"),
    "bool": MATRIX > 2,
    "big-endian": MATRIX.astype(">f4"),
    "Fortran order": np.asfortranarray(MATRIX),
    "strided": np.repeat(MATRIX, 2, axis=1)[:, ::2],
    "reversed": MATRIX[::-1, ::-1],
    "broadcast": np.broadcast_to(MATRIX[0], (4, 3)),
    "read-only": read_only(MATRIX),
    "misaligned": misaligned(MATRIX),
    "list": MATRIX.tolist(),
    "objects": MATRIX.astype(object),
    "array-like": ArrayLike(),
    "masked, but nowhere": np.ma.masked_array(MATRIX),
    "memoryview": memoryview(MATRIX),
}


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_a_matrix(given, dtype):
    result = v.as_matrix(given, dtype=dtype)
    np.testing.assert_array_equal(result, np.asarray(given, dtype))
    assert result.dtype == dtype and result.dtype.isnative
    assert result.flags.c_contiguous and result.flags.aligned
    assert type(result) is np.ndarray


@pytest.mark.parametrize("dtype", [F4, F8])
def test_nothing_is_copied_without_need(dtype):
    given = read_only(MATRIX.astype(dtype))
    assert np.shares_memory(v.as_matrix(given, dtype=dtype), given)
    assert np.shares_memory(v.as_vector(given[0], "y", dtype=dtype), given)


REFUSED = {  # name: (value, type of error, what the message says)
    "1-D": (np.ones(3), ValueError, r"2-D.*\(3,\).*reshape\(1, -1\).*reshape\(-1, 1\)"),
    "0-D": (1.0, ValueError, r"2-D.*\(\)"),
    "3-D": (np.ones((2, 3, 4)), ValueError, r"2-D.*\(2, 3, 4\).*reshape\(len\(X\), -1\)"),
    "no rows": (np.ones((0, 3)), ValueError, r"at least 1 row.*rows=0"),
    "no columns": (np.ones((3, 0)), ValueError, r"at least one column.*columns=0"),
    "empty list": ([], ValueError, r"2-D.*\(0,\)"),
    "NaN": ([[1, 2], [3, np.nan]], ValueError, r"NaN.*\(1, 1\); 1 in all.*impute"),
    "infinity": ([[1, -np.inf], [3, np.inf]], ValueError, r"infinity.*\(0, 1\); 2 in all"),
    "too large": ([[1e300]], ValueError, r"too large for float32.*rescale.*float64"),
    "complex": ([[1j]], TypeError, "Complex data not supported"),
    "text": ([["a", "b"]], TypeError, "real numbers.*Encode"),
    "bytes": ([[b"a"]], TypeError, "real numbers"),
    "dates": (np.zeros((2, 2), "M8[D]"), TypeError, "real numbers.*datetime64"),
    "spans": (np.zeros((2, 2), "m8[D]"), TypeError, "real numbers"),
    "records": (np.zeros(3, [("a", "f4")]), TypeError, "real numbers"),
    "None": (None, ValueError, "2-D"),
    "object text": (np.array([[1, "a"]], object), TypeError, "dtype object.*not numbers"),
    "object list": (np.array([[1, []]], object), TypeError, "dtype object.*not numbers"),
    "object None": (np.array([[1, None]], object), ValueError, "NaN"),
    "ragged": ([[1, 2], [3]], ValueError, "rows of equal length"),
    "sparse": (scipy.sparse.csr_array(MATRIX), TypeError, r"sparse.*X\.toarray\(\)"),
    "masked": (np.ma.masked_array(MATRIX, MATRIX > 3), ValueError, r"masked.*X\.filled"),
    "dictionary": ({"a": 1}, TypeError, "not numbers"),
    "set": ({1, 2}, TypeError, "not numbers"),
    "huge": (np.broadcast_to(np.float32(0), (2**31 + 5, 1)), ValueError, "2147483653.*2147483647"),
    "huge, wide": (np.broadcast_to(np.float32(0), (1, 2**31)), ValueError, "2147483648"),
}


@pytest.mark.parametrize(("value", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_matrix(value, error, message):
    with pytest.raises(error, match=message):
        v.as_matrix(value, "X", dtype=F4)


def test_the_name_and_the_columns_are_the_caller_s():
    with pytest.raises(ValueError, match=r"^weights must have 4 columns; got .*rows=2, columns=3"):
        v.as_matrix(MATRIX, "weights", dtype=F8, columns=4)
    with pytest.raises(ValueError, match="must have 1 column; got"):
        v.as_matrix(MATRIX, dtype=F8, columns=1)
    with pytest.raises(ValueError, match=r"at least 5 row\(s\)"):
        v.as_matrix(MATRIX, dtype=F8, min_rows=5)


def test_vectors():
    np.testing.assert_array_equal(v.as_vector([1, 2], "w", dtype=F4), np.float32([1, 2]))
    for value, message in [
        (MATRIX, r"w must be 1-D; got an array of shape \(2, 3\)"),
        ([1, 2, 3], "w must have 2 elements; got 3"),
        ([1, np.nan], r"w contains NaN \(first at index \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            v.as_vector(value, "w", dtype=F4, size=2)


@pytest.mark.parametrize("dtype", [np.float16, F4, F8, np.longdouble])
def test_finite_numbers_whose_sum_is_not(dtype):
    largest = np.full((2, 3), np.finfo(dtype).max, dtype)
    v.check_finite(largest, "X")
    v.check_finite(-largest, "X")
    largest[1, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinity \(first at index \(1, 1\)"):
        v.check_finite(largest, "X")


def test_index_within_a_part_is_that_of_the_whole():
    part = np.array([[1.0, 2], [3, np.nan]])
    with pytest.raises(ValueError, match=r"first at index \(101, 1\)"):
        v.as_contiguous(part, F8, "X", first_row=100)


def test_same_rows():
    v.check_same_rows(X=MATRIX, y=None, z=np.ones(2))
    with pytest.raises(ValueError, match="X: 2, y: 3"):
        v.check_same_rows(X=MATRIX, y=np.ones(3))


@pytest.mark.parametrize("dtype", ["float32", np.float32, "f4", F4, float, "double", np.float64])
def test_float_dtypes(dtype):
    assert v.as_float_dtype(dtype) in (F4, F8)


@pytest.mark.parametrize("dtype", ["float16", int, "longdouble", ">f4", "text", None, 3, []])
def test_other_dtypes(dtype):
    with pytest.raises(ValueError, match="must be 'float32' or 'float64'; got"):
        v.as_float_dtype(dtype)


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers(value):
    result = v.check_int(value, "n", minimum=3, maximum=3)
    assert result == 3 and type(result) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], 3 + 0j])
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match="n must be an integer; got"):
        v.check_int(value, "n")


def test_bounds_of_integers():
    for value, message in [(0, "at least 1; got 0"), (2**31, "at most 2147483647; got 2147483648")]:
        with pytest.raises(ValueError, match=message):
            v.check_int(value, "n")
    assert v.check_int(-(10**30), "n", minimum=None) == -(10**30)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1), fractions.Fraction(1)])
def test_reals(value):
    result = v.check_real(value, "x", minimum=1, maximum=1)
    assert result == 1.0 and type(result) is float


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0], decimal.Decimal(1), np.ones(1)])
def test_what_is_no_real(value):
    with pytest.raises(TypeError, match="x must be a number; got"):
        v.check_real(value, "x")


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (np.nan, {}, "finite; got nan"),
        (-np.inf, {}, "finite; got -inf"),
        (10**400, {}, "fit a float"),
        (0.5, {"minimum": 1}, "at least 1; got 0.5"),
        (2.5, {"maximum": 2}, "at most 2; got 2.5"),
        (1, {"minimum": 1, "exclusive": True}, "greater than 1; got 1"),
        (2, {"maximum": 2, "exclusive": True}, "less than 2; got 2"),
    ],
)
def test_bounds_of_reals(value, bounds, message):
    with pytest.raises(ValueError, match=message):
        v.check_real(value, "x", **bounds)


def test_booleans():
    assert v.check_bool(np.False_, "flag") is False
    for value in (1, 0, None, "yes", np.ones(1, bool)):
        with pytest.raises(TypeError, match="flag must be True or False; got"):
            v.check_bool(value, "flag")


def test_choices():
    assert v.check_choice("b", "name", {"a": 1, "b": 2}) == "b"
    for value in ("c", None, 1, ["a"], b"a"):
        with pytest.raises(ValueError, match="name must be one of 'a', 'b'; got"):
            v.check_choice(value, "name", ("a", "b"))
