"""Special tokens in a text, in one pass whatever they are: the automaton of Aho and Corasick (1975), from the right.

At each place the longest token that begins there is wanted. Who reads from the left has to read on to know which it is,
and to come back; who reads from the right knows all that follows. The tokens are a tree of their bytes, the last byte
first: each node stands for the end of a token. The walk through a text is at each place at the longest such end that
the text has there.

    tokens      ab, cabd                            root - b - a            below each node the byte before it
                                                         - d - b - a - c

    text        x    c    a    b    d    a    b
    node        root cabd abd  bd   d    ab   b     read from right to left
    lengths     0    4    2    0    0    2    0     of "abd" too the beginning is a token

Where a node has no child for the next byte, the walk goes on at its `fallback`, the longest beginning of its bytes that
is a node as well: of "abd" that is "ab", of "bd" it is "b". These bytes need no second look, so that n bytes take at
most 2 n steps. A node's length is that of the longest token that its bytes begin with: its own, or its fallback's.

The readable twin is the alternation of all tokens, the longest first, as a regular expression
(`tokenizers/special_tokens.py`), which compares them one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import njit
from glassformer.kernels.split import ByteArray

NONE = 0  # no child: the root is no node's
GOLDEN = -7046029254386353131  # 2⁶⁴ divided by the golden ratio, as 64 bits with a sign

Nodes = NDArray[np.int32]
Lengths = NDArray[np.uint16]


class Automaton(NamedTuple):
    """A tree of tokens. Its edges are in a table with open addressing, by node and byte; those of the root by byte."""

    of_root: Nodes  # a child of the root, for each byte
    keys: NDArray[np.int64]  # 256 times a node, plus a byte; of an empty slot zero
    children: Nodes
    fallback: Nodes
    lengths: Lengths


@njit
def mark(data: ByteArray, automaton: Automaton, lengths: Lengths) -> int:
    """Write for each place how long the longest token is that begins there, 0 if none does; returns the steps taken."""
    node, steps = 0, 0
    for i in range(len(data)):
        place = len(data) - 1 - i
        node, n = follow(automaton, node, int(data[place]))
        lengths[place] = automaton.lengths[node]
        steps += n
    return steps


@njit
def list_spans(lengths: Lengths, spans: NDArray[np.int64]) -> int:
    """Begin and end of each token from the left; how many there are. No more are written than there is room for."""
    n, place = 0, 0
    while place < len(lengths):
        length = int(lengths[place])
        if length:
            if n < len(spans):
                spans[n, 0], spans[n, 1] = place, place + length
            n += 1
        place += max(length, 1)
    return n


@njit
def follow(automaton: Automaton, node: int, byte: int) -> tuple[int, int]:
    """The node that a walk comes to by a byte, and in how many steps."""
    child, steps = child_of(automaton, node, byte), 1
    while child == NONE and node > 0:
        node = int(automaton.fallback[node])
        child = child_of(automaton, node, byte)
        steps += 1
    return child, steps


@njit
def child_of(automaton: Automaton, node: int, byte: int) -> int:
    """The node that a byte leads to, or NONE."""
    if node == 0:
        return int(automaton.of_root[byte])
    return int(automaton.children[slot_of(automaton.keys, node, byte)])


@njit
def slot_of(keys: NDArray[np.int64], node: int, byte: int) -> int:
    """The slot of a node's edge, or the empty slot where it would be, which has no child."""
    key = node << 8 | byte
    slot = (key * GOLDEN >> 32) & (len(keys) - 1)
    while keys[slot] != key and keys[slot] != 0:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@njit
def grow(text: ByteArray, ends: NDArray[np.int64], nodes: Nodes, automaton: Automaton) -> None:
    """Enter the tokens, which stand side by side in `text`, the longest first; `nodes` has a zero for each.

    The tree grows level by level, so that when a node comes about those of shorter texts know all about themselves.
    """
    n_nodes, length, n_tokens = 1, 0, len(ends)
    while n_tokens:
        for i in range(n_tokens):
            node, byte = int(nodes[i]), int(text[ends[i] - 1 - length])
            child = child_of(automaton, node, byte)
            if child == NONE:
                child = n_nodes
                n_nodes += 1
                add_child(automaton, node, byte, child)
            nodes[i] = child
        length += 1
        while n_tokens and ends[n_tokens - 1] - (ends[n_tokens - 2] if n_tokens > 1 else 0) == length:
            n_tokens -= 1
            automaton.lengths[nodes[n_tokens]] = length


@njit
def add_child(automaton: Automaton, node: int, byte: int, child: int) -> None:
    """Add a node below another, and say where a walk goes on from there, and which token it has seen there."""
    if node == 0:
        automaton.of_root[byte] = child
        return
    slot = slot_of(automaton.keys, node, byte)
    automaton.keys[slot], automaton.children[slot] = node << 8 | byte, child
    fallback, _ = follow(automaton, int(automaton.fallback[node]), byte)
    automaton.fallback[child] = fallback
    automaton.lengths[child] = automaton.lengths[fallback]


def automaton_of(tokens: Sequence[bytes]) -> Automaton:
    """The automaton of some tokens, none of which is empty or longer than 65,535 bytes."""
    longest_first = sorted(tokens, key=len, reverse=True)
    ends = np.cumsum([len(token) for token in longest_first], dtype=np.int64)
    n_nodes = 1 + sum(map(len, tokens))
    n_slots = 1 << (2 * n_nodes).bit_length()
    automaton = Automaton(
        of_root=np.zeros(256, np.int32),
        keys=np.zeros(n_slots, np.int64),
        children=np.zeros(n_slots, np.int32),
        fallback=np.zeros(n_nodes, np.int32),
        lengths=np.zeros(n_nodes, np.uint16),
    )
    text = np.frombuffer(b"".join(longest_first), np.uint8)
    grow(text, ends, np.zeros(len(tokens), np.int32), automaton)
    return automaton
