"""`glassformer neighbours`: the words whose vectors are nearest to a word's."""

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.loading import OPENING, Opening, load
from glassformer.cli.output import print_json, print_line, remark

if TYPE_CHECKING:
    from glassformer.checkpoints.word_vectors import WordVectors

app = App(
    name="neighbours",
    help_epilogue="Example:  glassformer neighbours A --vectors nano-sort",
)


@app.default
def neighbours(
    word: str,
    /,
    *,
    vectors: str,
    n: int = 10,
    opening: Opening = OPENING,
    json: Flag = False,
) -> None:
    """Print the nearest words, with the cosine of the angle between the vectors.

    Parameters
    ----------
    word
        The word whose neighbours are wanted.
    vectors
        A file of word2vec's (text or binary) or GloVe's, or a model: then its tokens are the words.
    n
        Print so many neighbours.
    json
        Print a JSON object.
    """
    from glassformer.inference.neighbours import nearest

    nearby = nearest(read(vectors, opening=opening), word, n)
    if json:
        neighbours = [{"word": neighbour.word, "cosine": neighbour.cosine} for neighbour in nearby]
        print_json({"word": word, "neighbours": neighbours})
        return
    for neighbour in nearby:
        print_line(f"{neighbour.cosine:7.4f}  {neighbour.word}")


def read(source: str, *, opening: Opening) -> "WordVectors":
    """The vectors of a file, or of a model."""
    from glassformer.checkpoints import word_vectors
    from glassformer.checkpoints.formats import all_formats
    from glassformer.checkpoints.formats.format import Source
    from glassformer.errors import GenerationError
    from glassformer.inference.neighbours import embedding_of

    path = Path(source)
    file = Source(path)
    is_model = file.is_pickle or file.content == "safetensors" or any(each.sniff(file) for each in all_formats())
    if path.is_file() and (not is_model or word_vectors.has_header(path)):
        vectors = word_vectors.read(path)
        if vectors.note:
            remark(f"{path}: {vectors.note}.")
        return vectors
    model = load(source, "language-model", "encoder-decoder", "encoder", "word-vectors", opening=opening)
    if model.tokenizer is None:
        raise GenerationError(f"{source} came without a tokenizer, so its vectors have no words. {model.no_tokenizer}")
    return embedding_of(model.module, model.tokenizer)
