"""What lies beside a model's weights: its tokenizers, and how pictures or sound become its inputs.

    tokenizer.json            or another file that `Tokenizer.load` reads; tokenizer_config.json has its class
    source_tokenizer/         the same for the source of an encoder-decoder, where that has a vocabulary of its own
    source.spm, target.spm    both tokenizers, in Marian's folders
    preprocessor_config.json  the processor of pictures or of sound

Next to read: `tokenizers/formats.py`, `features/image_processor.py`, `features/sound_processor.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glassformer import files, strict_json
from glassformer.checkpoints import whisper_folder
from glassformer.errors import CheckpointMismatch, MissingExtra, TokenizerError
from glassformer.features import image_processor, sound_processor
from glassformer.features.image_processor import ImageProcessor
from glassformer.features.log_mel import FRAMES_PER_SECOND
from glassformer.features.sound_processor import SoundProcessor
from glassformer.models import spec_of
from glassformer.models.vit import ViTConfig
from glassformer.models.whisper import WhisperConfig
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.formats import SOURCE_FOLDER, find, find_source
from glassformer.tokenizers.marian import MarianTokenizer, write_pair
from glassformer.tokenizers.speech_tokens import SpeechTokens
from glassformer.tokenizers.tokenizer_json import template_processing
from glassformer.tokenizers.untrusted_files import inside

Processor = ImageProcessor | SoundProcessor

PROCESSOR = image_processor.FILE
TOKENIZER_CONFIG = "tokenizer_config.json"
ROLES = {  # how `transformers` asks for special tokens, and what they are called
    "unk_token": ("<unk>", "[UNK]"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>"),
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
}


class Tokenizers(NamedTuple):
    """A model's tokenizer, that of its source where it is another one, and why one is missing that has a file."""

    tokenizer: Tokenizer | None = None
    source: Tokenizer | None = None
    missing: str = ""


def read_tokenizers(folder: Path) -> Tokenizers:
    """The tokenizers of a folder. A model without them still works on tokens."""
    try:
        found, source = find(folder), find_source(folder)
    except TokenizerError as error:
        return Tokenizers(missing=error.anywhere())
    tokenizer, reason = first_readable([] if found is None else [found])
    source_tokenizer, source_reason = first_readable([] if source is None else [source])
    return Tokenizers(tokenizer, source_tokenizer, reason or source_reason)


def beside(path: Path, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """The tokenizer of a language model that is one file, if one with as many tokens lies beside it."""
    names = (f"tok{vocab_size}.bin", "tokenizer.bin", "tokenizer.model", "meta.pkl")
    return first_readable([path.with_name(name) for name in names], vocab_size)


def first_readable(paths: Sequence[Path], vocab_size: int | None = None) -> tuple[Tokenizer | None, str]:
    """The first of these tokenizers that is there, can be read and has `vocab_size` tokens, or why there is none."""
    reason = ""
    for path in filter(Path.is_file, paths):
        try:
            tokenizer = Tokenizer.load(inside(path.parent, path.name))
        except (TokenizerError, MissingExtra) as error:
            reason = reason or error.anywhere()
        else:
            if vocab_size in (None, tokenizer.vocab_size):
                return tokenizer, ""
    return None, reason


def write_tokenizers(
    folder: Path, tokenizer: Tokenizer, source: Tokenizer | None, speech: SpeechTokens | None, config: Any
) -> None:
    """Write them so that `transformers` finds both, that of the source in its `subfolder`; a Whisper's whole."""
    if speech is not None:
        whisper_folder.with_special_tokens(speech).save(folder)
        write_json(folder / TOKENIZER_CONFIG, whisper_folder.tokenizer_config(speech))
    elif isinstance(tokenizer, MarianTokenizer):
        first = source if isinstance(source, MarianTokenizer) else tokenizer
        write_pair(folder, first, tokenizer)
        marian = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": first.ids != tokenizer.ids}
        write_json(folder / TOKENIZER_CONFIG, marian)
        source = None if source is first else source
    else:
        _write_tokenizer(folder, tokenizer, config)
    if source is not None:
        _write_tokenizer(folder / SOURCE_FOLDER, source, config)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, config: Any) -> None:
    """Without the class, `transformers` takes that of the model's family, which cuts text by rules of its own.

    A text is read between the same tokens there as here: a language model's has one in front, a translator's source
    one behind it.
    """
    if type(tokenizer).save is not Tokenizer.save:  # a form of its own, which `transformers` does not know
        tokenizer.save(folder)
        return
    source = spec_of(config).kind == "encoder-decoder"
    around = template_processing(tokenizer.special_tokens, None, tokenizer.eos_id) if source else tokenizer.template()
    tokenizer.write_tokenizer_json(folder, around)
    write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer, config))


def tokenizer_config(tokenizer: Tokenizer, config: Any) -> dict[str, Any]:
    """tokenizer_config.json: the class, how long a text may be, and what the special tokens are for."""
    names = {id: name for name, id in tokenizer.special_tokens.items()}
    ends = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.context_length,
        **{role: name for role, known in ROLES.items() for name in known if name in tokenizer.special_tokens},
        **{role: names[id] for role, id in ends.items() if id is not None},
    }


# ---- processors


def read_processor(folder: Path, config: Any) -> Processor | None:
    """What preprocessor_config.json says; Whisper's follows from its configuration where there is no such file."""
    if not (folder / PROCESSOR).exists():
        return processor_of(config)
    if isinstance(config, ViTConfig):
        return image_processor.load(folder)
    if not isinstance(config, WhisperConfig):
        return None
    with files.about(folder):
        found = sound_processor.from_huggingface(strict_json.read(files.inside(folder, PROCESSOR), 1 << 20))
        if found.n_mels != config.n_mels:
            raise CheckpointMismatch(
                f"{PROCESSOR} makes frames of {found.n_mels} numbers, and the model hears frames of {config.n_mels}."
            )
        return found


def processor_of(config: Any) -> SoundProcessor | None:
    """Whisper's processor, if its window has whole seconds, which is how it can be written down."""
    if isinstance(config, WhisperConfig):
        seconds, rest = divmod(2 * config.audio_context_length, FRAMES_PER_SECOND)
        if rest == 0:
            return SoundProcessor(n_mels=config.n_mels, seconds=seconds)
    return None


def write_processor(folder: Path, processor: Processor) -> None:
    """Write preprocessor_config.json."""
    content = (
        image_processor.to_huggingface(processor)
        if isinstance(processor, ImageProcessor)
        else sound_processor.to_huggingface(processor)
    )
    write_json(folder / PROCESSOR, content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of settings that nobody reads yet."""
    files.write(path, (json.dumps(content, indent=2) + "\n").encode())
