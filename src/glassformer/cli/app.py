"""The table of verbs: one file a verb. A verb's module is imported when the verb is used, so `--help` stays quick."""

from cyclopts import App

from glassformer import __version__

VERBS = {
    "demo": "Train a nano-GPT to sort letters, and check every input.",
    "tokenizer": "Learn, use and look at tokenizers.",
    "data": "Fetch public corpora.",
    "train": (
        "Train a model from a configuration, or go on with a run.\n\nAny setting can be given as a flag, by its path "
        "and with a value: --steps 500 --model.n-layers 2 --optimizer.lr 3e-4. The flag --settings lists them."
    ),
    "generate": (
        "Continue a text; what comes streams to standard output.\n\nIds that stand for no text are never chosen: those "
        "with which a vocabulary is padded, behind the tokenizer's last. transformers may choose them."
    ),
    "chat": (
        "Talk with a model, by the chat template in its files.\n\nAt a terminal each line is a message, or a command "
        "such as /help; what comes through a pipe is one message, and is answered. An answer is the most likely text, "
        "token by token, unless generation_config.json or an option such as --temperature 0.8 says how to draw one."
    ),
    "translate": "Translate texts; a single one streams with one beam.",
    "transcribe": "Write down what is said in recordings, as text or subtitles.",
    "classify": "Say what is in pictures, and how they are cut into patches.",
    "evaluate": "Measure a model: perplexity, right answers, BLEU and chrF, or word errors.",
    "neighbours": "Print the words whose vectors are nearest to a word's.",
    "convert": "Turn a checkpoint into a Hugging Face directory, which transformers loads too.",
    "trace": "Record a forward pass, and verify every number in it.",
    "explain": "Show the arithmetic behind one number of a forward pass.",
    "attribute": "Show which parts of a model a logit came from.",
    "compare": "Name the first operation where two models part that should compute the same.",
    "view": "Walk through a model in 3D, in the browser, with every number true.",
    "gallery": "Write a site of walks through models, which opens from the disk.",
    "doctor": "Say what this machine has, and what runs on it.",
}


app = App(
    name="glassformer",
    help="The Transformer you can see through: build, train and run Transformers.",
    help_epilogue="Start here:  glassformer demo",
    version=__version__,
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
for verb, summary in VERBS.items():
    app.command(f"glassformer.cli.{verb}:app", name=verb, help=summary)
