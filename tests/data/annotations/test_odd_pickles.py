"""Pickles that are put together right, of values that no array has: every rule names what it found."""

import collections
import pickle
import struct

import numpy as np
import pytest

from pyws.data.annotations import pickle_index
from pyws.data.annotations.pickle_index import index_npy
from pyws.data.annotations.safe_pickle import load_pickle, load_pickled_array
from pyws.errors import DataError

START = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"  # an array without a state
F4 = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
O8 = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR"


def array(shape, dtype, data):
    """The instructions of an array with a state; ``shape`` and ``data`` are instructions too."""
    return START + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def text(size):
    return b"T" + struct.pack("<I", size) + b"\0" * size


ONE = array(b"(K\x01t", F4, text(4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            array(b"(K\x01t", F4.replace(b"f4", b"V4"), text(4)),
            "dtype must be a number, string or object, got 'V4' '<'",
        ),
        (
            array(b"(K\x01t", F4.replace(b"U\x02f4", b"K\x04"), text(4)),
            "dtype must be a number, string or object, got 4",
        ),
        (array(b"(K\x01t", F4.replace(b"U\x01<", b"U\x01!"), text(4)), "got 'f4' '!'"),
        (START.replace(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n") + b".", "an array must be a plain numpy.ndarray"),
        (b"cnumpy.core.multiarray\nscalar\n(U\x02f4U\x04\0\0\0\0tR", "a scalar must have a dtype"),
        (F4, "must hold numbers, strings, lists and arrays, got DType"),
        (START + b"K\x01b", "array must have a version, shape, dtype, order and data"),
        (array(b"]", F4, text(4)), r"array must have a shape of whole numbers, got \[\]"),
        (array(b"(J\xff\xff\xff\xfft", F4, text(4)), r"array must have a shape of whole numbers, got \(-1,\)"),
        (array(b"(\x88t", F4, text(4)), r"array must have a shape of whole numbers, got \(True,\)"),
        (array(b"(K\x01t", F4, text(5)), "must have as many bytes"),
    ],
)
def test_arrays_that_are_none(data, message):
    with pytest.raises((ValueError, pickle.UnpicklingError), match=message):
        load_pickled_array(b"\x80\x02" + data + b".")


def test_keys_of_tables_are_names(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(collections.OrderedDict([("v", 1), (b"w", 2), (3, None)])))
    assert load_pickle(path) == {"v": 1, "w": 2, "3": None}
    for key in (1.5, None, ("v",)):
        path.write_bytes(pickle.dumps({key: 1}))
        with pytest.raises(DataError, match=f"must have names as keys, got {type(key).__name__}"):
            load_pickle(path)


def npy(data, shape="(1,)", descr="|O"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x80\x02" + data + b"."


def listed(*entries, shape=b"(K\x01t", dtype=O8):
    return array(shape, dtype, b"](" + b"".join(entries) + b"e")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(listed(ONE), "(1, 1)"), r"must hold one list of arrays, got object of shape \(1, 1\)"),
        (npy(b"", "(1,)", "<f4"), r"must hold one list of arrays, got float32 of shape \(1,\)"),
        (npy(b"]"), "must hold an array of arrays"),
        (npy(START), "must hold an array of arrays"),
        (npy(array(b"(K\x01t", b"K\x01", b"]")), "must hold an array of arrays"),
        (npy(listed(ONE), "(2,)"), r"must hold an array of shape \(2,\) as its header says"),
        (npy(listed(ONE, dtype=F4)), r"must hold an array of shape \(1,\) as its header says"),
        (npy(array(b"(K\x01t", O8, text(8))), r"must hold an array of shape \(1,\) as its header says"),
        (npy(listed(ONE, ONE)), "must hold 1 entries, got 2"),
        (npy(listed(b"K\x01")), "entry 0 must be an array"),
        (npy(listed(START)), "entry 0 must be an array"),
        (npy(listed(ONE, array(b"K\x01", F4, text(4)), shape=b"(K\x02t"), "(2,)"),
         "entry 1 must have a shape of whole numbers, got 1"),
        (npy(listed(array(b"(J\xff\xff\xff\xfft", F4, text(4)))), r"entry 0 must have a shape of .*, got \(-1,\)"),
        (npy(listed(array(b"(K\x01t", F4, b"]"))), "entry 0 must be an array of numbers"),
        (npy(listed(array(b"(K\x01t", O8, text(8)))), "entry 0 must be an array of numbers"),
        (npy(listed(array(b"(K\x02t", F4, text(4)))), r"entry 0 of shape \(2,\) .* must have 8 bytes, got 4"),
        (npy(listed(array(b"(K\x02t", F4, text(12)))), r"entry 0 of shape \(2,\) .* must have 8 bytes, got 12"),
    ],
)  # fmt: skip
def test_features_that_are_none(content, message, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(listed(ONE)))
    assert [one.read().tolist() for one in index_npy(tmp_path / "a.npy")] == [[0.0]]
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=f"a.npy: .*{message}"):
        index_npy(tmp_path / "a.npy")


def test_what_is_not_in_arrays_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_index, "_READ_MIB", 1)
    path = tmp_path / "a.npy"
    values = np.empty(1, object)
    values[0] = np.ones(2**19)  # 4 MiB in an array
    np.save(path, values, allow_pickle=True)
    assert index_npy(path)[0].shape() == (2**19,)
    path.write_bytes(npy(listed(b"(" + (b"U\xff" + b"a" * 255) * 2**13 + b"l")))
    with pytest.raises(DataError, match="holds more than 1 MiB that is not in arrays"):
        index_npy(path)
