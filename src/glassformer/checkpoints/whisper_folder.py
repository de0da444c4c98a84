"""What `transformers` asks of a Whisper's folder to transcribe with it, beside the weights and the sound's processor.

All of it follows from the tokenizer and the size of the vocabulary (`tokenizers/speech_tokens.py`). We ourselves read
none of it but the heads that follow the speech, which `huggingface.py` hands to the configuration.
"""

from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.whisper import WhisperConfig
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.byte_level import BPETokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens

LATEST_START = 50  # of 0.02 seconds: the first time that a transcript may begin with is 1.00


def speech_of(config: Any, tokenizer: Tokenizer | None) -> SpeechTokens | None:
    """The special tokens of a published Whisper's vocabulary; None for any other model, and for other vocabularies."""
    if config.architecture != WhisperConfig.architecture or not isinstance(tokenizer, BPETokenizer):
        return None
    try:
        return SpeechTokens(tokenizer, config.vocab_size)
    except ConfigError:
        return None


def generation(speech: SpeechTokens, config: WhisperConfig) -> dict[str, Any]:
    """The part of generation_config.json that tells `generate` which tokens mean what."""
    settings: dict[str, Any] = {
        "is_multilingual": speech.multilingual,
        "no_timestamps_token_id": speech.no_times,
        "prev_sot_token_id": speech.start_of_previous,
        "max_initial_timestamp_index": LATEST_START,
        "suppress_tokens": speech.never_text,
        "begin_suppress_tokens": [*speech.encode(" "), speech.end_of_text],
        "return_timestamps": False,
        "max_length": config.context_length,
    }
    if speech.multilingual:
        settings["lang_to_id"] = {f"<|{code}|>": token for code, token in speech.languages.items()}
        settings["task_to_id"] = {"translate": speech.translate, "transcribe": speech.transcribe}
    return settings


def with_special_tokens(speech: SpeechTokens) -> Tokenizer:
    """The tokenizer with all special tokens but the times, which `transformers` counts from behind the last one."""
    tokenizer = speech.tokenizer
    if not isinstance(tokenizer, BPETokenizer) or set(speech.names) <= tokenizer.special_tokens.keys():
        return tokenizer
    ordinary = {id: token for id, token in tokenizer.vocab.items() if id < speech.end_of_text}
    return BPETokenizer(
        ordinary, tokenizer.merges, speech.names, tokenizer.pattern, whole_pieces=tokenizer.whole_pieces
    )


def tokenizer_config(speech: SpeechTokens) -> dict[str, Any]:
    """tokenizer_config.json."""
    end = speech.names[0]
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "clean_up_tokenization_spaces": False,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end),
        "additional_special_tokens": list(speech.names[1:]),
    }
