"""How often the randomised tests try: (in `make test`, in `make test-all`). One table: a reduction is visible."""

import os

COUNTS: dict[str, tuple[int, int]] = {
    # inference
    "schedules of the decode engine": (2, 100),  # of each of 16 models and caches
    "speculative schedules": (1, 60),  # of each of 27 models, drafters and caches
    "sampled texts with drafts": (2_000, 20_000),
    "guided texts": (4, 100),  # of each expression and schema
    "random expressions": (15, 500),
    "streamed texts": (200, 5_000),
    "translators of transformers": (1, 20),
    "telephone prompts": (3, 20),
    "kinds of noise": (1, 24),
    "kinds of music": (1, 5),
    "words to fit between two times": (300, 5_000),
    "transcripts as subtitles": (150, 1_000),
    "quantized architectures": (7, 99),
    "matrices to warp": (20, 300),
    "texts in words": (60, 1_000),
    "random conversations": (30, 500),  # of each template
    # tokenizers
    "tokenizer parity strings": (2_000, 5_000),
    "tokenizer round trips": (300, 2_000),
    "strings of every tokenizer.json": (60, 2_000),
    "characters of a parity text": (20_000, 5_000_000),
    "parts of a parity text": (1, 1_000),  # of each corpus
    "characters without a break": (50_000, 1_000_000),
    "bytes of a corpus to learn from": (15_000, -1),  # all
    "merges of a corpus": (100, 2_000),
    "random strings against tiktoken": (5_000, 100_000),
    "characters beside others": (50_000, 1_112_064),
    "texts to split": (2_000, 100_000),
    "texts with special tokens": (500, 20_000),
    "chunkings": (60, 300),
    "merge tables": (150, 5_000),
    "corpora against the textbook": (60, 300),
    "word sets full of ties": (60, 2_000),
    "corpora counted in blocks": (60, 1_000),
    "files of documents cut": (20, 500),
    "bytes that may be UTF-8": (3_000, 100_000),
    "subword-nmt corpora against the textbook": (20, 300),
    "streams of random ids": (200, 5_000),
    "runs of bytes": (100, 5_000),  # of each kind of tokenizer
    "texts for Marian": (60, 1_000),
    "tokenizer.json mutations": (150, 1_000),
    "damaged meta.pkl": (200, 5_000),
    "waveforms against the definition": (8, 60),
    "waveforms in pieces": (40, 500),
    "decode steps of plans": (26, 650),  # models
    "decode steps of several tokens": (13, 400),  # models
    "decode steps beside encoders": (8, 500),  # models
    "policies by definition": (10, 600),
    # nn
    "tiled equals naive": (60, 400),
    "cached equals the policy's definition": (25, 600),
    "relative positions": (30, 500),
    "scalings of rotary frequencies": (8, 100),  # of each kind
    "convolutions": (40, 400),
    "instructions of processors": (1, 9),
    "quantized matrices": (6, 170),  # of each kind
    "calls of MultiheadAttention": (60, 300),
    "recurrent networks": (12, 200),
    "attentions of Luong's": (3, 30),
    # models
    "sequence-to-sequence models": (8, 100),
    # tracing
    "cells of a foreign module": (1_000, 10_000),
    "cells of a model": (2_000, 10_000),
    "attributed logits": (1, 40),  # of each model
    "right ports": (1, 8),  # of each of 5 families
    # viewer
    "cells explained in the page": (20, 200),
    # data and training
    "damaged files of word vectors": (150, 2_000),
    "damaged corpora": (100, 2_000),
    "audio mutations": (200, 2_000),
    "encodings stopped": (4, 60),
    "batch starts": (20_000, 1_000_000),
    "damaged pictures of a format": (80, 400),
    "hostile pictures": (70, 143),
    "hostile sounds": (70, 163),
    "damaged sounds": (60, 2_000),
    "resumed runs": (1, 20),
    "steps before a run is stopped": (4, 60),
    "kills while training": (1, 150),
    "full disks while training": (2, 150),
    # tracing
    "trace mutations": (300, 2_000),
    "trace bit flips": (60, 1_000),
    "hostile recordings of a kind": (1, 30),
    "mutated recordings": (8, 150),
    # checkpoints
    "words spoken": (10, 300),
    "models of transformers imported": (4, 50),
    "models exported to transformers": (3, 50),
    "decoder families imported": (2, 30),  # of each family
    "decoder families exported": (2, 30),
    "decoders in bfloat16": (1, 10),  # of each family
    "scaled models of transformers": (2, 30),  # of each kind
    "scaled models to transformers": (1, 30),
    "Whispers of transformers imported": (3, 40),
    "Whispers exported to transformers": (2, 40),
    "checkpoints round trips": (4, 50),
    "Marian models imported": (3, 50),
    "Marian models exported": (2, 50),
    "BERTs of transformers imported": (6, 50),
    "BERTs exported to transformers": (6, 50),
    "encoder families imported": (3, 30),  # of each family
    "encoder families exported": (3, 30),
    "rules of generation": (6, 200),  # for each kind of model
    "BARTs and T5s of transformers imported": (3, 50),
    "BARTs and T5s exported to transformers": (2, 50),
    "kills while saving": (5, 50),
    "damaged files of a format": (25, 500),
    "bit flips": (60, 1_000),
    "safetensors mutations": (300, 2_000),
    "safetensors truncations": (40, 200),
}


def count(name: str) -> int:
    reduced, full = COUNTS[name]
    return full if os.environ.get("GLASSFORMER_FULL") == "1" else reduced
