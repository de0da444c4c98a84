"""Whisper beside openai-whisper and faster-whisper: log-mel frames, the encoder, whole recordings.

Run:  python benchmarks/whisper.py tiny.en.pt gpt2.tiktoken RECORDING...   (what is not installed is named)

One thread each, float32. faster-whisper needs the same weights in its own format beside tiny.en.pt, as the folder
tiny.en.ct2 (ct2-transformers-converter makes it of what `glassformer convert` writes).
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paired import compare, save

from glassformer import checkpoints
from glassformer.data.audio import read_audio
from glassformer.inference.transcribe import Options, listen, transcribe
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.log_mel import log_mel
from glassformer.tokenizers.speech_tokens import SpeechTokens

WINDOW = 480_000  # samples: thirty seconds


def main(weights: Path, ranks: Path, recordings: list[Path]) -> None:
    """Print and save the table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    module: Any = checkpoints.load(weights, from_pickle=True).module
    speech = SpeechTokens(Tokenizer.load(ranks), module.config.vocab_size)
    sounds = [read_audio(path) for path in recordings]
    window = torch.cat([sounds[0], torch.zeros(WINDOW)])[:WINDOW]
    rows: dict[str, Any] = {}

    def measure(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> None:
        rows[name] = compare(ours, theirs, pairs=pairs)
        print(f"{name:56} {rows[name]} times as fast; {rows[name].ours * 1e3:.0f} ms", flush=True)

    def ours(options: Options) -> list[str]:
        return [transcribe(module, speech, sound, options).text for sound in sounds]

    try:
        import whisper
    except ImportError:
        print("openai-whisper is not installed: pip install openai-whisper")
    else:
        openai = whisper.load_model(str(weights))
        mel = log_mel(window)
        measure("log-mel, 30 s, openai", lambda: log_mel(window), lambda: whisper.log_mel_spectrogram(window), 25)
        with torch.inference_mode():
            measure("encoder, openai", lambda: listen(module, mel), lambda: openai.encoder(mel[None]), 9)
        for words in (False, True):

            def theirs(words: bool = words) -> list[str]:
                found = [openai.transcribe(s.numpy(), fp16=False, word_timestamps=words, best_of=5) for s in sounds]
                return [each["text"] for each in found]

            name = f"{len(sounds)} recordings{', word times' if words else ''}, openai"
            measure(name, lambda words=words: ours(Options(word_times=words)), theirs, 5)
    converted = weights.with_suffix(".ct2")
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        print("faster-whisper is not installed: pip install faster-whisper")
    else:
        if converted.is_dir():
            faster = WhisperModel(str(converted), device="cpu", compute_type="float32", cpu_threads=1)

            def fasters() -> list[str]:
                found = [faster.transcribe(sound.numpy(), beam_size=1)[0] for sound in sounds]
                return ["".join(segment.text for segment in segments) for segments in found]

            measure(f"{len(sounds)} recordings, faster-whisper", lambda: ours(Options()), fasters, 5)
        else:
            print(f"There is no {converted}, which faster-whisper needs.")
    if rows:
        save("whisper", rows)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
