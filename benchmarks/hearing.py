"""Words that are not there, and words that are lost: ours beside openai-whisper.

    PYTHONPATH=tests python benchmarks/hearing.py tiny.en.pt gpt2.tiktoken AUDIO_FOLDER

openai-whisper takes part if it is installed. AUDIO_FOLDER holds `asterisk`, prompts of a telephone system with a
transcripts.tsv, and `fsdd`, spoken digits. Errors in words on the prompts and on ten sequences of digits of thirty
seconds (`tests/support/spoken.py`), and words written of noise and of music that is made by code
(`tests/support/noises.py`), where nobody speaks. Both draw with the seed 0. With a fourth argument, `evidence`: how
much evidence our greedy text of each recording has, which `min_evidence` was chosen by.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paired import save
from torch import Tensor

from glassformer import checkpoints
from glassformer.data.audio import read_audio
from glassformer.features.log_mel import SAMPLE_RATE, log_mel
from glassformer.inference.transcribe import listen, transcribe
from glassformer.inference.whisper_decoding import SpeechWindow, evidence
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens
from support.noises import MUSIC, NOISES, sound
from support.spoken import digits_of, errors, spoken_digits, words_of

Write = Callable[[Tensor], str]


def main(weights: Path, ranks: Path, folder: Path) -> None:
    """Print and save the table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    module: Any = checkpoints.load(weights, from_pickle=True).module
    speech = SpeechTokens(Tokenizer.load(ranks), module.config.vocab_size)
    writers: dict[str, Write] = {"ours": lambda wave: transcribe(module, speech, wave).text}
    try:
        import whisper
    except ImportError:
        print("openai-whisper is not installed: pip install openai-whisper")
    else:
        openai = whisper.load_model(str(weights))

        def theirs(wave: Tensor) -> str:
            torch.manual_seed(0)
            return str(openai.transcribe(wave.numpy(), fp16=False)["text"])

        writers["openai-whisper"] = theirs
    rows = {name: measured(name, write, folder) for name, write in writers.items()}
    save("hearing", rows)


def print_evidence(weights: Path, ranks: Path, folder: Path) -> None:
    """Nats a token of the greedy text, for recordings in which somebody speaks and for those in which nobody does."""
    module: Any = checkpoints.load(weights, from_pickle=True).module
    speech = SpeechTokens(Tokenizer.load(ranks), module.config.vocab_size)
    opening = [speech.start, speech.no_times]

    def heard(wave: Tensor) -> DecoderState:
        return listen(module, log_mel(torch.cat([wave, torch.zeros(30 * SAMPLE_RATE)]))[:, :3000])

    silence = heard(torch.zeros(30 * SAMPLE_RATE))
    waves = {path.stem: read_audio(path) for path in sorted((folder / "asterisk").glob("*.wav"))}
    waves |= {f"digits {seed}": spoken_digits(folder / "fsdd", seed)[0] for seed in range(10)}
    waves |= {kind: sound(maker, 30) for kind, maker in {**NOISES, **MUSIC}.items()}
    for name, wave in waves.items():
        written = SpeechWindow(module, heard(wave), speech, opening, times=False).sample(0.0, 1)
        nats = evidence(module, heard(wave), silence, written.tokens, opening, speech)
        print(f"{name:36} {nats:6.2f}  {speech.decode(written.tokens)[:60]}", flush=True)


def measured(name: str, write: Write, folder: Path) -> dict[str, Any]:
    """Errors and invented words of one program."""
    prompts = (folder / "asterisk" / "transcripts.tsv").read_text().splitlines()
    pairs = [line.split("\t") for line in prompts]
    row: dict[str, Any] = {
        "errors in prompts": sum(
            errors(words_of(text), words_of(write(read_audio(folder / "asterisk" / file)))) for file, text in pairs
        ),
        "words in prompts": sum(len(words_of(text)) for _, text in pairs),
    }
    print(name, row, flush=True)
    digits = [spoken_digits(folder / "fsdd", seed) for seed in range(10)]
    row["errors in digits"] = [errors(said, digits_of(write(wave))) for wave, said in digits]
    row["digits"] = sum(len(said) for _, said in digits)
    print(name, row, flush=True)
    for kind, maker in {**NOISES, **MUSIC}.items():
        row[kind] = len(words_of(write(sound(maker, 30))))
        print(f"{name}: {kind}: {row[kind]} words", flush=True)
    return row


if __name__ == "__main__":
    run = {4: main, 5: print_evidence}.get(len(sys.argv))
    if run is None:
        sys.exit(__doc__)
    run(*map(Path, sys.argv[1:4]))
