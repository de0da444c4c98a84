"""Whisper beside openai-whisper and faster-whisper: log-mel frames, the encoder, whole recordings.

Run:  python benchmarks/speech.py [--threads N] tiny.en.pt gpt2.tiktoken RECORDING...   (what is not installed is named)

Greedy, float32, and int8 beside faster-whisper's int8. One thread each, by seconds of the processor; with more threads
by the clock on the wall, which needs a quiet machine. The first recording is a row of its own, the others are one: each
of them is a pair. faster-whisper needs the same weights in its own format beside tiny.en.pt, as the folder tiny.en.ct2
with a tokenizer.json (ct2-transformers-converter makes it of what `glassformer convert` writes); another place for it
can stand in the variable CT2.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from paired import compare, save
from torch import Tensor

from glassformer import checkpoints
from glassformer.data.audio import read_audio
from glassformer.features.log_mel import log_mel
from glassformer.inference.quantize import quantize
from glassformer.inference.transcribe import Options, listen, transcribe
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens

WINDOW = 480_000  # samples: thirty seconds
FIRST_PAIRS = 15

Write = Callable[[Tensor], str]


def main(weights: Path, ranks: Path, recordings: list[Path], n_threads: int) -> None:
    """Print and save the table."""
    torch.set_num_threads(n_threads)
    clock = time.process_time if n_threads == 1 else time.perf_counter
    warnings.filterwarnings("ignore")
    module: Any = checkpoints.load(weights, from_pickle=True).module.eval()
    quantized: Any = quantize(checkpoints.load(weights, from_pickle=True).module.eval(), "int8")
    speech = SpeechTokens(Tokenizer.load(ranks), module.config.vocab_size)
    first, *others = [read_audio(path) for path in recordings]
    rows: dict[str, Any] = {}

    def measure(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> None:
        rows[name] = compare(ours, theirs, pairs=pairs, clock=clock)
        print(f"{name:48} {rows[name]} times as fast; ours {rows[name].ours * 1e3:.0f} ms", flush=True)

    def measure_recordings(name: str, options: Options, theirs: Write, model: Any = module) -> None:
        def ours(sound: Tensor) -> str:
            return transcribe(model, speech, sound, options).text

        measure(f"{recordings[0].stem}, {name}", each([first], ours), each([first], theirs), FIRST_PAIRS)
        if others:
            n = f"{len(others)} prompts, {name}"
            measure(n, each(others, ours), each(others, theirs), len(others))

    try:
        import whisper
    except ImportError:
        print("openai-whisper is not installed: pip install openai-whisper")
    else:
        openai = whisper.load_model(str(weights))
        window = torch.cat([first, torch.zeros(WINDOW)])[:WINDOW]
        mel = log_mel(window)
        measure("log-mel of 30 s, openai", lambda: log_mel(window), lambda: whisper.log_mel_spectrogram(window), 25)
        with torch.inference_mode():
            measure("encoder, openai", lambda: listen(module, mel), lambda: openai.encoder(mel[None]), 9)
        for words in (False, True):

            def theirs(sound: Tensor, words: bool = words) -> str:
                found = openai.transcribe(sound.numpy(), fp16=False, word_timestamps=words, best_of=5)
                return str(found["text"])

            measure_recordings(f"openai{', word times' if words else ''}", Options(word_times=words), theirs)
    converted = Path(os.environ.get("CT2", weights.with_suffix(".ct2")))
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        print("faster-whisper is not installed: pip install faster-whisper")
    else:
        if converted.is_dir():
            for kind, model in {"float32": module, "int8": quantized}.items():
                faster = WhisperModel(str(converted), device="cpu", compute_type=kind, cpu_threads=n_threads)

                def fasters(sound: Tensor, faster: Any = faster) -> str:
                    segments, _ = faster.transcribe(sound.numpy(), beam_size=1)
                    return "".join(segment.text for segment in segments)

                print(f"faster-whisper in {kind} writes: {fasters(first)}")
                print(f"we write:                  {transcribe(model, speech, first, Options()).text}")
                measure_recordings(f"faster-whisper, {kind}", Options(), fasters, model)
        else:
            print(f"There is no {converted}, which faster-whisper needs.")
    if rows:
        save("speech" if n_threads == 1 else f"speech_{n_threads}_threads", rows)


def each(sounds: list[Tensor], write: Write) -> Callable[[], str]:
    """A function that writes down the next recording whenever it is called, and begins anew after the last."""
    turn: Iterator[Tensor] = cycle(sounds)
    return lambda: write(next(turn))


if __name__ == "__main__":
    arguments, n_threads = sys.argv[1:], 1
    if arguments[:1] == ["--threads"] and len(arguments) > 1 and arguments[1].isdecimal():
        n_threads, arguments = int(arguments[1]), arguments[2:]
    if len(arguments) < 3 or n_threads < 1:
        sys.exit(__doc__)
    main(Path(arguments[0]), Path(arguments[1]), [Path(name) for name in arguments[2:]], n_threads)
