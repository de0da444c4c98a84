"""llama.cpp itself, where GLASSFORMER_LLAMA_CPP names its library (libllama.so, with ggml's libraries beside it).

Its structures of settings are handed on as they come, as bytes, so that their fields may change from version to
version; only functions that take no field of them are called.
"""

import ctypes
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = os.environ.get("GLASSFORMER_LLAMA_CPP", "")


class Opaque(ctypes.Structure):
    """A structure that is larger than any of llama.cpp's, which are all passed in memory."""

    _fields_ = (("bytes", ctypes.c_char * 1024),)


class LlamaCpp:
    """A model as llama.cpp reads it."""

    def __init__(self, path: Path, n_threads: int = 1) -> None:
        folder = Path(LIBRARY).parent
        for pattern in ("libggml-base*.so", "libggml.*so"):
            for each in folder.glob(pattern):
                ggml = ctypes.CDLL(str(each), mode=ctypes.RTLD_GLOBAL)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.library = library = ctypes.CDLL(LIBRARY)
        pointers = (
            "llama_model_load_from_file",
            "llama_init_from_model",
            "llama_model_get_vocab",
            "llama_get_memory",
        )
        for name in pointers:
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("llama_model_default_params", "llama_context_default_params", "llama_batch_get_one"):
            getattr(library, name).restype = Opaque
        library.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        self.log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        library.llama_log_set(self.log, None)
        library.llama_backend_init()
        model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        assert model, f"llama.cpp does not load {path}"
        context = library.llama_init_from_model(ctypes.c_void_p(model), library.llama_context_default_params())
        assert context, f"llama.cpp does not run {path}"
        self.context, self.vocab = (
            ctypes.c_void_p(context),
            ctypes.c_void_p(library.llama_model_get_vocab(ctypes.c_void_p(model))),
        )
        library.llama_set_n_threads(self.context, n_threads, n_threads)
        self.n_tokens = int(library.llama_vocab_n_tokens(self.vocab))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, between the tokens that open and close one."""
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        n = self.library.llama_tokenize(self.vocab, data, len(data), ids, len(ids), True, True)
        return list(ids[:n])

    def continued(self, ids: list[int], n: int) -> list[int]:
        """The `n` tokens that follow greedily."""
        self.library.llama_memory_clear(ctypes.c_void_p(self.library.llama_get_memory(self.context)), False)
        new: list[int] = []
        batch = ids
        for _ in range(n):
            logits = self._after(batch)
            new.append(int(np.ctypeslib.as_array(logits, (self.n_tokens,)).argmax()))
            batch = new[-1:]
        return new

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Those after each token, which are read one by one."""
        return np.array([np.ctypeslib.as_array(self._after([id]), (self.n_tokens,)).copy() for id in ids])

    def _after(self, ids: list[int]) -> Any:
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        assert self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, len(ids))) == 0
        return self.library.llama_get_logits_ith(self.context, -1)


def answers(path: Path, texts: Sequence[str], n: int) -> tuple[list[list[int]], list[int]]:
    """The ids of the texts, and the `n` tokens that follow the first text greedily.

    In a process of its own, as llama.cpp ends one that loads a second model in this way.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_answers, path, texts, n).result()


def _answers(path: Path, texts: Sequence[str], n: int) -> tuple[list[list[int]], list[int]]:
    model = LlamaCpp(path)
    ids = [model.encode(text) for text in texts]
    return ids, model.continued(ids[0], n)


def logits(path: Path, ids: Sequence[int]) -> np.ndarray:
    """The logits after each token of a text, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_logits, path, ids).result()


def _logits(path: Path, ids: Sequence[int]) -> np.ndarray:
    return LlamaCpp(path).logits(ids)
