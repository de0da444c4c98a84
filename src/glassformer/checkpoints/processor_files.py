"""preprocessor_config.json: how images or sound become a model's inputs, for each kind of model that takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.checkpoints.folder_files import PROCESSOR, FolderFiles
from glassformer.checkpoints.tokenizer_files import write_json
from glassformer.errors import CheckpointMismatch
from glassformer.features import image_processor, sound_processor
from glassformer.features.image_processor import ImageProcessor
from glassformer.features.log_mel import FRAMES_PER_SECOND
from glassformer.features.sound_processor import SoundProcessor
from glassformer.models import spec_of
from glassformer.models.spec import KindName

Processor = ImageProcessor | SoundProcessor


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorFormat:
    """The processor of a kind of model: read from settings, written as settings, or implied by the configuration."""

    read: Callable[[Mapping[str, Any], Any], Processor]
    write: Callable[[Any], dict[str, Any]]
    implied: Callable[[Any], Processor | None]


def read_sound(settings: Mapping[str, Any], config: Any) -> SoundProcessor:
    """Whisper's; raises where its frames are not those that the model takes."""
    processor = sound_processor.from_huggingface(settings)
    if processor.n_mels != config.n_mels:
        raise CheckpointMismatch(
            f"{PROCESSOR} makes frames of {processor.n_mels} numbers, and the model hears frames of {config.n_mels}."
        )
    return processor


def implied_sound(config: Any) -> SoundProcessor | None:
    """Whisper's, if its window has whole seconds, which is how it can be written down."""
    seconds, remainder = divmod(2 * config.audio_context_length, FRAMES_PER_SECOND)
    return SoundProcessor(n_mels=config.n_mels, seconds=seconds) if remainder == 0 else None


FORMATS: Mapping[KindName, ProcessorFormat] = {
    "image-classifier": ProcessorFormat(
        read=lambda settings, config: image_processor.from_huggingface(settings),
        write=image_processor.to_huggingface,
        implied=lambda config: None,
    ),
    "speech-recognizer": ProcessorFormat(read=read_sound, write=sound_processor.to_huggingface, implied=implied_sound),
}


def read_processor(folder: FolderFiles, config: Any) -> Processor | None:
    """What the file says, or what follows from the configuration without one; None for models of texts."""
    format = FORMATS.get(spec_of(config).kind)
    if format is None:
        return None
    return format.read(folder.settings(PROCESSOR), config) if folder.has(PROCESSOR) else format.implied(config)


def implied_processor(config: Any) -> Processor | None:
    """The processor that follows from the configuration alone, if any."""
    format = FORMATS.get(spec_of(config).kind)
    return None if format is None else format.implied(config)


def write_processor(folder: Path, processor: Processor, config: Any) -> None:
    """Write preprocessor_config.json."""
    write_json(folder / PROCESSOR, FORMATS[spec_of(config).kind].write(processor))
