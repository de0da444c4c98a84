"""Where decode steps are made: the vectors between their phases, and what the kernel is told of a module's caches."""

import os
import weakref
from itertools import chain
from operator import is_

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glassformer.inference.decode_tables import DecodeTables
from glassformer.kernels import decode_step as kernel
from glassformer.nn.kv_cache import KVCache, Policy
from glassformer.nn.mask import Mask
from glassformer.nn.memory import DecoderState
from glassformer.nn.position_bias import RelativePositionBias
from glassformer.nn.quantized_matrix import TILE
from glassformer.nn.threads import run_together


class StepRoom:
    """The tables of a module, and room for the steps of as many rows as there were last."""

    def __init__(self, tables: DecodeTables) -> None:
        self.tables = tables
        self._step = np.zeros(kernel.N_STEP, np.int64)
        self._arrays: dict[int, NDArray[np.generic]] = {}  # by the field that has their address
        self._n_rows = 0
        self._policies: list[Policy] = []
        self._buffers: list[weakref.ref[Tensor]] = []  # whose addresses the caches have
        layers = np.array(tables.layers, np.int64)
        self._put(kernel.LAYERS, layers)
        self._put(kernel.NUMBERS, np.array(tables.numbers, np.float32))
        self._put(kernel.MATRICES, np.array(tables.matrices, np.int64))
        self._put(kernel.NORMS, np.array(tables.norms, np.int64).reshape(-1, kernel.N_NORM))
        self._put(kernel.MODEL_NUMBERS, np.array(tables.model_numbers, np.float32))
        self._caches = self._put(kernel.CACHES, np.zeros((len(layers), kernel.N_CACHE), np.int64))
        self._memories = self._put(kernel.MEMORIES, np.zeros((len(layers), kernel.N_MEMORY), np.int64))
        n_heads, n_kv_heads, d_head = layers[0, kernel.N_HEADS : kernel.D_HEAD + 1].tolist()
        self._heads = n_heads, n_kv_heads
        self._widths = {
            kernel.X: tables.d_model,
            kernel.NORMED: tables.d_model,
            kernel.BESIDE: tables.d_model,
            kernel.ADDED: tables.d_model,
            kernel.QKV: (n_heads + 2 * n_kv_heads) * d_head,
            kernel.MIXED: n_heads * d_head,
            kernel.HIDDEN: 2 * tables.d_ff,
        }
        self._step[[kernel.D_MODEL, kernel.QKV_WIDTH, kernel.MIXED_WIDTH]] = [
            self._widths[field] for field in (kernel.X, kernel.QKV, kernel.MIXED)
        ]
        rope = tables.ropes[0] if tables.ropes else None
        fields = {
            kernel.D_FF: tables.d_ff,
            kernel.N_LAYERS: len(layers),
            kernel.N_ROPES: len(tables.ropes),
            kernel.N_PAIRS: 0 if rope is None else rope.n_pairs,
            kernel.IS_HALF: rope is not None and rope.style == "half",
            kernel.TOKEN_TABLE: tables.token_table,
            kernel.PLACE_TABLE: tables.place_table,
            kernel.EMBEDDING_NORM: tables.embedding_norm,
            kernel.FINAL_NORM: tables.final_norm,
            kernel.HEAD: tables.head,
            kernel.LOGITS_WIDTH: -(-tables.n_tokens // TILE) * TILE if tables.is_quantized else tables.n_tokens,
        }
        self._step[[*fields]] = [*fields.values()]

    def run(
        self, tokens: list[int], n_new: list[int], state: KVCache, beside: DecoderState | None = None
    ) -> Float[Tensor, "rows V"]:
        """The logits after each of the tokens; a step for which there is no room raises, as `state.step`.

        So many tokens are new in each text; where none is, one stands there all the same, as padding. `beside` is the
        state that the cache is part of, where an encoder has made a memory.
        """
        if len(tokens) != self._n_rows:
            self._fit(len(tokens))
        if state.policies != self._policies:
            self._follow(state.policies, self._n_rows)
        starts = state.step_by(n_new)
        places = [range(start, start + n) if n else [-1] for start, n in zip(starts, n_new, strict=True)]
        positions = [*chain.from_iterable(places)]
        self._positions[:] = positions
        text_of_row = np.repeat(np.arange(len(n_new)), np.maximum(n_new, 1))
        self._put(kernel.FIRST_ROWS, np.searchsorted(text_of_row, np.arange(len(n_new) + 1)))
        self._step[kernel.N_TEXTS] = len(n_new)
        if self.tables.quantized_tokens is None:
            self._tokens[:] = tokens
        else:
            vectors = self.tables.quantized_tokens(torch.tensor(tokens)).contiguous()
            self._tokens[:], self._step[kernel.TOKEN_TABLE] = range(len(tokens)), vectors.data_ptr()
        self._turn_by_length(state, text_of_row)
        self._point_at(state)
        if self.tables.position_bias is not None:
            self._add_bias(self.tables.position_bias, state, positions)
        if beside is not None:
            self._point_at_memory(beside)
        logits = torch.empty(self._n_padded, int(self._step[kernel.LOGITS_WIDTH]))
        self._step[kernel.LOGITS] = logits.data_ptr()
        n_threads = min(torch.get_num_threads(), n_processors())
        self._step[kernel.N_THREADS] = n_threads
        self._step[[kernel.HAS_LEADER, kernel.IS_OPEN]] = 0, 1
        run_together(kernel.take_part, kernel.TAKE_PART, self._step, n_threads)
        return logits[: len(tokens), : self.tables.n_tokens]

    def _put(self, field: int, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Keep an array, and let a field of the step have its address."""
        self._arrays[field] = array
        self._step[field] = array.ctypes.data
        return array

    def _fit(self, n_rows: int) -> None:
        """Room for so many rows."""
        self._n_rows = 0  # until all is there: who is stopped halfway (Ctrl-C) begins again
        self._n_padded = n_rows if n_rows == 1 else -(-n_rows // kernel.GROUP) * kernel.GROUP
        self._step[kernel.N_ROWS], self._step[kernel.N_PADDED] = n_rows, self._n_padded
        for field, width in self._widths.items():
            self._put(field, np.zeros((self._n_padded, width), np.float32))
        if self.tables.is_quantized:
            most = max(matrix[kernel.COLUMNS] for matrix in self.tables.matrices)
            self._put(kernel.ROUNDED, np.zeros((n_rows, most), np.int8))
            self._put(kernel.ROUNDED_SCALES, np.zeros((n_rows, most), np.float32))
            self._put(kernel.ROUNDED_TOTALS, np.zeros((n_rows, most), np.int32))
        self._tokens = self._put(kernel.TOKENS, np.zeros(n_rows, np.int64))
        self._positions = self._put(kernel.POSITIONS, np.zeros(n_rows, np.int64))
        n_pairs = int(self._step[kernel.N_PAIRS])
        frequencies = np.zeros((len(self.tables.ropes), n_rows, n_pairs))
        for i, rope in enumerate(self.tables.ropes):
            frequencies[i] = rope.frequencies().numpy()
        self._frequencies = self._put(kernel.FREQUENCIES, frequencies)
        self._step[kernel.N_SCORES], self._buffers = 0, []
        self._follow(self._policies, n_rows)
        self._n_rows = n_rows

    def _follow(self, policies: list[Policy], n_rows: int) -> None:
        """Take over what each layer keeps."""
        self._policies = []
        each = list(dict.fromkeys(policies))
        self._put(kernel.POLICIES, np.array([[policy.capacity, policy.n_sinks] for policy in each], np.int64))
        self._step[kernel.N_POLICIES] = len(each)
        layers = self._arrays[kernel.LAYERS]
        layers[:, kernel.POLICY] = [each.index(policy) for policy in policies] or 0
        n_tables, n_pairs = len(self.tables.ropes) + len(each), int(self._step[kernel.N_PAIRS])
        self._put(kernel.ANGLES, np.zeros((n_tables, n_rows, 2 * n_pairs), np.float32))
        self._policies = policies

    def _turn_by_length(self, state: KVCache, text_of_row: NDArray[np.int64]) -> None:
        """Where frequencies go by the length of a text, those of each row."""
        rope = self.tables.ropes[0] if self.tables.ropes else None
        if rope is not None and rope.scaling is not None and rope.scaling.by_length:
            assert state.lengths is not None
            lengths = state.lengths[torch.from_numpy(text_of_row)].clamp(max=state.policy.capacity)
            self._frequencies[0] = rope.frequencies(lengths[:, None])[:, 0].numpy()

    def _point_at(self, state: KVCache) -> None:
        """Where the buffers of all layers begin now, if they are others than before."""
        buffers = [buffer for layer in state.layers for buffer in layer.buffers]
        if len(buffers) == len(self._buffers) and all(map(is_, buffers, (each() for each in self._buffers))):
            return
        self._buffers = []  # until all is there
        rows, most = [], 0
        for layer in state.layers:
            addresses = [buffer.data_ptr() for buffer in layer.buffers]
            slots = [buffer.shape[2] for buffer in layer.buffers]
            rows.append([*addresses, *[0] * (3 - len(addresses)), slots[0], slots[-1]])
            most = max(most, slots[0])
        self._caches[:] = rows
        self._score(most)
        self._buffers = [*map(weakref.ref, buffers)]

    def _point_at_memory(self, state: DecoderState) -> None:
        """Where the keys and values of the memory lie, and which of them a row sees."""
        rows, n_slots, valid = [], state.memory.shape[1], state.valid
        for layer in state.memories:
            assert layer.kept is not None
            keys, values = layer.kept
            rows.append([keys.data_ptr(), values.data_ptr(), *keys.stride()[:3]])
        self._memories[:] = rows
        self._step[[kernel.MEMORY_MASK, kernel.MEMORY_LENGTH]] = 0, n_slots
        if valid is not None:
            self._put(kernel.MEMORY_MASK, np.where(valid.numpy(), 0, -np.inf).astype(np.float32))
        self._score(n_slots)

    def _add_bias(self, position_bias: RelativePositionBias, state: KVCache, positions: list[int]) -> None:
        """What is added to the scores, by how far the keys of each row are from its new token."""
        assert state.lengths is not None
        n_slots = min(max(0, *positions) + 1, state.policy.capacity)
        keys = state.policy.positions(state.lengths[:, None], n_slots)[:, None]
        queries = torch.tensor(positions)[:, None, None]
        bias = position_bias(Mask(rule=state.policy.rule, queries=queries, keys=keys))
        self._put(kernel.SCORE_BIAS, bias.contiguous().numpy())
        self._step[kernel.BIAS_WIDTH] = n_slots

    def _score(self, n_slots: int) -> None:
        """Room for the scores of so many slots."""
        if n_slots > self._step[kernel.N_SCORES]:
            self._put(kernel.SCORES, np.zeros((self._n_rows, self._heads[0], 2 * n_slots), np.float32))
            self._step[kernel.N_SCORES] = 2 * n_slots


def n_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
