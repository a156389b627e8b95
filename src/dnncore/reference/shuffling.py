"""The counter-based shuffle: a function of (seed, stream, epoch), with no state to store.

Word ``i`` of a key is output ``i`` of SplitMix64 started at that key (Steele, Lea and Flood,
*Fast splittable pseudorandom number generators*, OOPSLA 2014), computed without the words
before it. The permutations are part of what a resumed run relies on: they may not change.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int

__all__ = ["mix64", "random_words", "shuffle", "shuffle_key"]

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio, odd: the step of SplitMix64's counter."""
MASK = 2**64 - 1

Word = TypeVar("Word", int, NDArray[np.uint64])


def mix64(x: Word) -> Word:
    """Scramble 64-bit words: the SplitMix64 finaliser, a bijection.

    Parameters
    ----------
    x : int below 2**64, or ndarray of uint64
        The words.

    Returns
    -------
    int or ndarray of uint64
        Like ``x``.
    """
    z: Any = x
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    mixed: Word = z ^ (z >> 31)
    return mixed


def shuffle_key(seed: int, stream: int, epoch: int) -> int:
    """Return the key of one stream in one epoch, ``seed``, ``stream``, ``epoch`` mixed in turn.

    Parameters
    ----------
    seed, stream, epoch : int
        Taken modulo 2**64.

    Returns
    -------
    int
        Below 2**64.
    """
    key = 0
    for part in (seed, stream, epoch):
        key = mix64((key + part + GOLDEN) & MASK)
    return key


def random_words(key: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return words ``start`` to ``start + count - 1``; word ``i`` is ``mix64(key + (i + 1) G)``.

    Parameters
    ----------
    key : int
        See :func:`shuffle_key`.
    start, count : int
        Which words.

    Returns
    -------
    ndarray of uint64 of shape (count,)
    """
    counter = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return mix64(counter * np.uint64(GOLDEN) + np.uint64(key))


def shuffle(n: int, seed: int, stream: int, epoch: int) -> NDArray[np.int64]:
    """Return a random permutation of ``0 .. n - 1``.

    Fisher-Yates from the top (Durstenfeld, *Algorithm 235*, 1964): for ``i`` from ``n - 1`` down
    to 1, swap places ``i`` and ``j``, where ``j`` is the high half of the 128-bit product of word
    ``i`` with ``i + 1``. That favours some ``j`` by less than ``n / 2**64``.

    Parameters
    ----------
    n : int
        Number of items, below 2**31.
    seed, stream, epoch : int
        What the permutation depends on.

    Returns
    -------
    ndarray of int64 of shape (n,)

    Raises
    ------
    TypeError, ValueError
        If ``n`` is not an integer from 0 to 2**31 - 1.
    """
    n = check_int(n, "n", minimum=0)
    words: list[int] = random_words(shuffle_key(seed, stream, epoch), 0, n).tolist()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = words[i] * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)
