"""g2p_en's checkpoint20.npz: a GRU that reads a word's letters, and one that says its phonemes.

Park & Kim 2019, github.com/Kyubyong/g2p (Apache-2.0). An .npz is a zip of arrays, stored as they are; arrays of
objects, which are pickles, are not opened. Phonemes are ARPAbet's, vowels with their stress from 0 to 2.
"""

import string
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.names import to_ours
from glassformer.checkpoints.pickles import check_zip
from glassformer.errors import CheckpointCorrupt
from glassformer.models.seq2seq import PRESETS
from glassformer.tokenizers.word_level import WordTokenizer

LETTERS = ("<pad>", "<unk>", "</s>", *string.ascii_lowercase)
PHONEMES = (
    *("<pad>", "<unk>", "<s>", "</s>"),
    *("AA0", "AA1", "AA2", "AE0", "AE1", "AE2", "AH0", "AH1", "AH2", "AO0", "AO1", "AO2", "AW0", "AW1", "AW2"),
    *("AY0", "AY1", "AY2", "B", "CH", "D", "DH", "EH0", "EH1", "EH2", "ER0", "ER1", "ER2", "EY0", "EY1", "EY2"),
    *("F", "G", "HH", "IH0", "IH1", "IH2", "IY0", "IY1", "IY2", "JH", "K", "L", "M", "N", "NG", "OW0", "OW1", "OW2"),
    *("OY0", "OY1", "OY2", "P", "R", "S", "SH", "T", "TH", "UH0", "UH1", "UH2", "UW", "UW0", "UW1", "UW2"),
    *("V", "W", "Y", "Z", "ZH"),
)
CONFIG = PRESETS["seq2seq-g2p"]
SOURCE = WordTokenizer(LETTERS, ("<pad>", "</s>"), unit="character", lowercase=True)
TARGET = WordTokenizer(PHONEMES, ("<pad>", "<s>", "</s>"))
OURS = {
    "enc_emb": "source_embedding.weight",
    "dec_emb": "token_embedding.weight",
    "fc_w": "lm_head.weight",
    "fc_b": "lm_head.bias",
} | {
    f"{short}_{kind}_{way}": f"{part}.layers.0.{proj}.{name}"  # gates stand as in torch, and so as here
    for short, part in {"enc": "encoder", "dec": "decoder"}.items()
    for kind, name in {"w": "weight", "b": "bias"}.items()
    for way, proj in {"ih": "x_proj", "hh": "h_proj"}.items()
}


def read(source: Source) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters."""
    check_zip(source.path, "numpy's savez")
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever a hostile header makes numpy say
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointCorrupt(f"it holds more than arrays of numbers, or is broken: {reason}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise CheckpointCorrupt(f"{name[:200]!r} must be an array of float32.")
    weights = {OURS.get(name, name): torch.from_numpy(array) for name, array in arrays.items()}
    return Contents(config=CONFIG, tokenizer=TARGET, source_tokenizer=SOURCE), to_ours(weights, CONFIG)


def sniff(source: Source) -> bool:
    """Whether numpy wrote it, and one of its arrays, whose names are at its beginning, is of these."""
    return source.is_numpy and any(f"{name}.npy".encode() in source.head for name in OURS)


FORMAT = Format(name="g2p_en", files=".npz of g2p_en", sniff=sniff, read=read)
