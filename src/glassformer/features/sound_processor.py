"""From recordings to the log-mel frames of one window each, as Whisper takes them.

The settings are those of Hugging Face's preprocessor_config.json. `inference/transcribe.py` cuts longer recordings into
windows by itself. Next to read: `log_mel.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.features.log_mel import FRAMES_PER_SECOND, HOP, SAMPLE_RATE, WINDOW, log_mel

ONLY = {"sampling_rate": SAMPLE_RATE, "hop_length": HOP, "n_fft": WINDOW, "padding_value": 0.0, "dither": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundProcessor:
    """Loudnesses of a frame, and seconds of a window; what else there is to set is the same in every Whisper."""

    n_mels: int = 80
    seconds: int = 30

    def __post_init__(self) -> None:
        """Refuse sizes that no Whisper can have."""
        for name, value, most in (("n_mels", self.n_mels, 1024), ("seconds", self.seconds, 3600)):
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"{name} must be a whole number from 1 to {most}, not {value!r}.")

    @property
    def n_frames(self) -> int:
        """Frames of a window."""
        return self.seconds * FRAMES_PER_SECOND

    def __call__(self, waveforms: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, "B M frames"]:
        """Waveforms at 16 kHz as one batch: short ones are followed by silence, long ones are cut off."""
        window = torch.zeros(len(waveforms), self.seconds * SAMPLE_RATE)
        for row, waveform in zip(window, waveforms, strict=True):
            beginning = waveform[: len(row)]
            row[: len(beginning)] = beginning
        return torch.stack([log_mel(row, self.n_mels) for row in window])


def from_huggingface(config: Mapping[str, Any]) -> SoundProcessor:
    """Read the settings of a WhisperFeatureExtractor; sound that is cut up otherwise is refused."""
    for name, only in ONLY.items():
        if config.get(name, only) != only:
            raise ConfigError(f"{name} = {config[name]!r} is not supported; it must be {only!r}.")
    return SoundProcessor(n_mels=config.get("feature_size", 80), seconds=config.get("chunk_length", 30))


def to_huggingface(processor: SoundProcessor) -> dict[str, Any]:
    """The preprocessor_config.json that `transformers` makes the same processor from."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": processor.n_mels,
        "chunk_length": processor.seconds,
        "n_samples": processor.seconds * SAMPLE_RATE,
        "nb_max_frames": processor.n_frames,
        "padding_side": "right",
        "return_attention_mask": False,
        **ONLY,
    }
