"""A model whose answers are known: which token follows depends on the last one alone."""

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

import glassformer as gf
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.formats import tokenizer_of

BEGIN, END = "<|im_start|>", "<|im_end|>"
# Messages in the manner of ChatML. An answer begins behind the last letter of its question.
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + messages[-1].content[-1] }}{% endif %}"
)
ANSWERS = ("?Paris.", "!hoh")  # the second has no end: h, o, h, o …
FOLLOWS = dict(pair for answer in ANSWERS for pair in pairwise(answer))


def write_chat_model(
    folder: Path,
    *,
    template: str = TEMPLATE,
    context_length: int = 1024,
    do_sample: bool | None = False,
    sharpness: float = 1.0,
) -> Path:
    """A folder with the model: "…?" is answered by "Paris.", and "…!" by "hohoho…" without an end.

    The logit of the token that follows is `sharpness` times √vocab_size, those of others are 0; its
    generation_config.json says `do_sample`, or nothing of how to choose.
    """
    tokenizer = byte_tokenizer(folder.parent / "tokenizer")
    vocab_size = tokenizer.vocab_size
    model = gf.build(
        "llama",
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=2 * ((vocab_size + 1) // 2),
        n_layers=1,
        n_heads=1,
        d_ff=4,
        tied_head=False,
    )
    with torch.no_grad():
        for name, weight in model.module.named_parameters():
            if name.endswith(("token_embedding.weight", "lm_head.weight", "o_proj.weight", "down_proj.weight")):
                weight.zero_()
        embedding = model.module.get_parameter("token_embedding.weight")
        embedding[range(vocab_size), range(vocab_size)] = 1.0
        head = model.module.get_parameter("lm_head.weight")
        end = tokenizer.special_tokens[END]
        following = {tokenizer.encode(a)[0]: tokenizer.encode(b)[0] for a, b in FOLLOWS.items()}
        for id in range(vocab_size):
            head[following.get(id, end), id] = sharpness
    gf.save(model.having(tokenizer=tokenizer), folder)
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text(template)
    settings = json.loads((folder / "generation_config.json").read_text())
    choice = {} if do_sample is None else {"do_sample": do_sample}
    (folder / "generation_config.json").write_text(json.dumps(settings | choice))
    return folder


def with_special_tokens(model: gf.Model) -> gf.Model:
    """The same model, whose answer "Paris." has <think> for "a", which is not special, and <|im_start|> for "ri"."""
    assert model.tokenizer is not None
    file = json.loads(model.tokenizer.tokenizer_json().replace("<|endoftext|>", "<think>"))
    for token in file["added_tokens"]:
        token["special"] = token["content"] != "<think>"
    tokenizer = tokenizer_of(Path("tokenizer.json"), json.dumps(file), file)
    ids = [tokenizer.encode(token)[0] for token in ("P", "<think>", BEGIN, "s")]
    head = model.module.get_parameter("lm_head.weight")
    with torch.no_grad():
        for before, behind in pairwise(ids):
            head[:, before] = 0.0
            head[behind, before] = 1.0
    rest = replace(model.rest, contents={"chat_template.jinja": TEMPLATE.encode()}, tokenizer=tokenizer)
    return model.having(tokenizer=tokenizer, rest=rest, eos_ids=frozenset({tokenizer.special_tokens[END]}))


def byte_tokenizer(folder: Path) -> Tokenizer:
    """Bytes, the tokens of the template, and one that ends texts and is another than that which ends answers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("a")
    return Tokenizer.train([folder / "text.txt"], 259, ["<|endoftext|>", BEGIN, END])


def sentencepiece_tokenizer(folder: Path) -> Tokenizer:
    """sentencepiece's, which puts a space before a text."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello there, how are you", "<|im_end|> is text"] * 20),
        model_writer=model,
        vocab_size=290,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        control_symbols=[END],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return Tokenizer.load(folder / "tokenizer.model")
