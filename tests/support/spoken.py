"""What is said in recordings and what was written of it: words alike whatever their spelling, and errors."""

import itertools
import random
import re
from pathlib import Path

import torch
from torch import Tensor

from glassformer.data.audio import read_audio
from glassformer.features.log_mel import SAMPLE_RATE

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def words_of(text: str) -> list[str]:
    """Words in small letters, without punctuation."""
    return re.sub(r"[^\w' ]", " ", text.lower().replace("open-source", "open source")).split()


def digits_of(text: str) -> list[str]:
    """Every figure and every word by itself, digits as figures."""
    words = re.findall(r"[a-z']+|\d", text.lower())
    return [str(DIGITS.index(word)) if word in DIGITS else word for word in words]


def errors(said: list[str], written: list[str]) -> int:
    """The fewest words to put in, leave out or change."""
    row = list(range(len(written) + 1))
    for i, word in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(written, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def spoken_digits(folder: Path, seed: int, seconds: float = 30.0) -> tuple[Tensor, list[str]]:
    """Digits of six speakers in random order, joined without a pause, and which ones they are."""
    paths = sorted(folder.glob("*.wav"))
    random.Random(seed).shuffle(paths)
    sounds = [read_audio(path) for path in paths]
    n = sum(length <= seconds * SAMPLE_RATE for length in itertools.accumulate(map(len, sounds)))
    return torch.cat(sounds[:n]), [path.name[0] for path in paths[:n]]
