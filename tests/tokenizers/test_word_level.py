"""Lists of words and of characters: their ids by hand, and their tokenizer.json in the `tokenizers` library."""

from pathlib import Path

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import Tokenizer, WordTokenizer

WORDS = WordTokenizer(["<unk>", "</s>", "the", "cat", "é", "i", "̇"], ["</s>"], lowercase=True)
LETTERS = WordTokenizer(["<unk>", "</s>", "a", "b", "i", "̇", " "], ["</s>"], unit="character", lowercase=True)
TEXTS = ["", " ", "The cat\tsat", "  é\u3000THE\x1ccat \n", "a</s>b A", "İ", "ab</s>", "the </s> cat"]


def test_words_stand_between_spaces_and_what_is_not_in_the_list_is_unknown() -> None:
    assert WORDS.encode("The dog, the cat.</s>") == [2, 0, 2, 0, 1]
    assert WORDS.decode([2, 3, 0]) == "the cat <unk>"
    assert LETTERS.encode("Ab c") == [2, 3, 6, 0]
    assert LETTERS.decode([2, 3, 6, 2]) == "ab a"
    stream = WORDS.stream()
    assert "".join(map(stream.push, [2, 3, 2])) == "the cat the"


@pytest.mark.parametrize("tokenizer", [WORDS, LETTERS], ids=["words", "letters"])
def test_the_tokenizers_library_reads_what_is_written_as_the_same(tmp_path: Path, tokenizer: WordTokenizer) -> None:
    library = pytest.importorskip("tokenizers")
    path = tokenizer.save(tmp_path)
    theirs, again = library.Tokenizer.from_file(str(path)), Tokenizer.load(path)
    assert isinstance(again, WordTokenizer)
    for text in TEXTS:
        expected = theirs.encode(text).ids
        assert tokenizer.encode(text) == again.encode(text) == expected, text
        if "<" not in text:
            assert tokenizer.decode(expected) == theirs.decode(expected)
    assert path.read_text() == again.save(tmp_path / "again").read_text()


@pytest.mark.parametrize(
    ("tokens", "special", "message"),
    [
        (["<unk>", "a", "a"], [], "no doubles"),
        (["a"], [], "lacks '<unk>'"),
        (["<unk>"], ["</s>"], "lacks '</s>'"),
    ],
)
def test_a_list_that_is_none_is_refused(tokens: list[str], special: list[str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        WordTokenizer(tokens, special)
