"""The facade: load, build, save, and a `Model` that carries its tokenizer and generates.

    model = load("runs/sort")
    "".join(model.generate("CBABBC", max_new_tokens=6, temperature=0.0))

A model's module stays pure (`begin` and `forward`); everything around it is here.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from glassformer import checkpoints, hub, models
from glassformer.checkpoints import Checkpoint
from glassformer.checkpoints.about import About
from glassformer.checkpoints.processor_files import Processor
from glassformer.checkpoints.rest import Rest
from glassformer.data.audio import Recording
from glassformer.data.download import DownloadProgress
from glassformer.data.images import open_image
from glassformer.data.sort import LETTERS
from glassformer.errors import CheckpointError, ConfigError, GenerationError, GlassformerError, TraceError
from glassformer.inference.beam import Beams, beam_search, beams_of
from glassformer.inference.chat import ChatPrompt, Conversation, prompt_of, template_of, without_margin
from glassformer.inference.chat_template import ChatMessage, ChatTemplate, Tools
from glassformer.inference.classify import Guess, classify
from glassformer.inference.constraints import OF_CALLS, Constraints, constraints_of, say_what_is_not_followed
from glassformer.inference.continuations import Continuation, check_counts, mean_logprob, tokens_of
from glassformer.inference.draft_model import DraftModel
from glassformer.inference.embed import Pooling, embed
from glassformer.inference.engine import Engine
from glassformer.inference.generate import Generation, generate
from glassformer.inference.guided import Guide
from glassformer.inference.logits import USUAL, LogitFilter, Sampling, sampling_of, usual_of_answers
from glassformer.inference.quantize import QUANTIZATIONS, Quantization
from glassformer.inference.quantize import quantize as quantize_module
from glassformer.inference.recorded_call import ModelCall, call_of
from glassformer.inference.request import NewToken, Request
from glassformer.inference.speculative import Drafter, Lookup
from glassformer.inference.stopping import Finish, stops_within
from glassformer.inference.streaming_text import Piece, stream_text, watched
from glassformer.inference.transcribe import Options, Transcript, transcribe
from glassformer.kinds import encoder, image, kind_of, kinds, sound, translation
from glassformer.kinds.kind import Inputs, Metrics, Progress, needs_tokenizer
from glassformer.models.bert import Bert
from glassformer.models.spec import IN_WORDS, CausalModel, KindName, longest_text
from glassformer.models.whisper import Whisper
from glassformer.nn.kv_cache import full, parse_policy
from glassformer.nn.quantized import is_quantized
from glassformer.tokenizers import CharTokenizer, Tokenizer
from glassformer.tracing import trace_file
from glassformer.tracing.check import check
from glassformer.tracing.compare import Comparison, compare_traces
from glassformer.tracing.explain import Explanation, explain
from glassformer.tracing.intervene import patch
from glassformer.tracing.recorder import record
from glassformer.tracing.storage_table import GIB
from glassformer.tracing.trace import Trace
from glassformer.training.device import FLOATING, choose_device
from glassformer.twins import use

PRETRAINED = ("nano-sort",)  # folders of `pretrained/`
PRECISIONS = {str(each).removeprefix("torch."): each for each in FLOATING}


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint that runs: its module in eval mode, and what it can do with a tokenizer or a processor."""

    checkpoint: Checkpoint

    @property
    def module(self) -> nn.Module:
        """The `nn.Module`, in eval mode."""
        return self.checkpoint.module

    @property
    def config(self) -> Any:
        """The module's sizes and choices."""
        return self.checkpoint.config

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; of an encoder-decoder, that of the target."""
        return self.checkpoint.tokenizer

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """The tokenizer of an encoder-decoder's source; None: it is read as the target is."""
        return self.checkpoint.source_tokenizer

    @property
    def no_tokenizer(self) -> str:
        """Why there is no tokenizer, where its file could not be read."""
        return self.checkpoint.no_tokenizer

    @property
    def processor(self) -> Processor | None:
        """What makes inputs of images, or of sound."""
        return self.checkpoint.processor

    @property
    def note(self) -> str:
        """What a user should know, such as that the weights are random."""
        return self.checkpoint.note

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end a text: those that the files name, and the tokenizer's own."""
        own = None if self.tokenizer is None else self.tokenizer.eos_id
        return self.checkpoint.eos_ids if own is None else self.checkpoint.eos_ids | {own}

    @property
    def suppressed(self) -> frozenset[int]:
        """The tokens that are never chosen, such as padding in Marian's models."""
        return self.checkpoint.suppressed

    @property
    def about(self) -> About | None:
        """What it does, where its folder says so."""
        return self.checkpoint.about

    @property
    def origin(self) -> str:
        """The name and the commit on the Hub that it was read from, perhaps before it was saved in its folder."""
        return self.checkpoint.origin

    @property
    def rest(self) -> Rest:
        """What its folder holds beside what is understood here; it goes along when the model is saved."""
        return self.checkpoint.rest

    def having(self, **changes: Any) -> "Model":
        """The same model with another tokenizer, processor, or whatever else a `Checkpoint` has."""
        return Model(replace(self.checkpoint, **changes))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The logits (B, T, V) after each of the tokens (B, T); of pictures (B, K, H, W), those of the classes (B, N).

        An encoder-decoder takes the source's tokens before the target's, Whisper the log-mel frames (B, M, frames).
        """
        for each in inputs:
            _check_type("A model", "tensors", each, Tensor)
        if self.kind != "image-classifier":
            self.check_length(inputs[-1])
        logits: Tensor = call_of(self.module)(self.module, *inputs)
        return logits

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> "Model":
        """The same model, its module moved in place, as torch's `to` does: to a device, into a precision, or both.

        What a router of DeepSeek-V3 prefers stays in float32, since the experts that it chooses hang on it.
        """
        if device is not None:
            self.module.to(choose_device(str(device))[0])
        if dtype is not None and is_quantized(self.module):
            check_precision(precision_of(dtype))
        elif dtype is not None:
            models.spec_of(self.config).convert(self.module, precision_of(dtype))
        return self

    @property
    def kind(self) -> KindName:
        """What it takes in and gives back."""
        return models.spec_of(self.config).kind

    def require(self, *kinds: KindName) -> None:
        """Raise unless it is of one of these kinds."""
        if self.kind not in kinds:
            wanted = " or ".join(IN_WORDS[kind] for kind in kinds)
            raise GenerationError(f"This takes {wanted}, and the model is {IN_WORDS[self.kind]}.")

    def check_length(self, tokens: Tensor) -> None:
        """Raise where there are more tokens than positions."""
        if tokens.shape[-1] > longest_text(self.config):
            raise GenerationError(
                f"{tokens.shape[-1]} tokens do not fit this model's context of {self.config.context_length}."
            )

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens after which a text is over: those that end it, and the one that begins the next.

        Answers in a chat go on behind the latter.
        """
        bos_id = None if self.tokenizer is None else self.tokenizer.bos_id
        return self.eos_ids if bos_id is None else self.eos_ids | {bos_id}

    @property
    def sampling(self) -> Sampling:
        """How tokens continue a text, unless something is asked for: as generation_config.json says, or as usual."""
        return sampling_of(self.rest.generation)

    @property
    def constraints(self) -> Constraints:
        """Which tokens may come where nothing else is asked for, as its files say."""
        generation, searches = self.rest.of_generation, self.kind == "encoder-decoder"
        forces_first = getattr(self.config, "first_id", None) is not None
        say_what_is_not_followed(generation, searches=searches, forces_first=forces_first)
        return constraints_of(
            generation, suppress_tokens=tuple(sorted(self.suppressed)), bad_phrases=self.rest.bad_phrases
        )

    @property
    def beams(self) -> Beams:
        """How a search goes on and ends where nothing else is asked for: as its files say, or as usual."""
        return beams_of(self.rest.of_generation)

    def chosen_by(self, settings: Mapping[str, Any], *, answers: bool = False) -> tuple[Sampling, Constraints]:
        """How tokens are chosen, and which may come, with other settings than its files'.

        Of `answers` in a chat the most likely token is taken, where neither these settings nor its files say how to
        draw one. A name that is no setting of `Sampling`, and no rule that a call may set (`OF_CALLS`), is an error.
        """
        rules = {name: settings[name] for name in settings if name in OF_CALLS}
        others = {name: settings[name] for name in settings if name not in rules}
        check_names(Sampling, others, "sampling setting")
        usual = usual_of_answers(self.rest.generation, others) if answers else USUAL
        sampling = sampling_of(self.rest.generation, usual=usual)
        return replace(sampling, **others), replace(self.constraints, **rules)

    def encode(self, prompt: str) -> list[int]:
        """The prompt's tokens, behind those that open a text for this model."""
        if not isinstance(prompt, str):
            raise GenerationError(f"must be a text, not {type(prompt).__name__}.", setting="prompt")
        tokenizer = needs_tokenizer(self)
        ids = [*tokenizer.begin_ids, *tokenizer.encode(prompt)]  # without those that close a text: it goes on
        if not ids:  # GPT-2 has one token for both: where a text ends, the next begins
            ids = [id for id in (tokenizer.bos_id, tokenizer.eos_id) if id is not None][:1]
        return ids

    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = 256,
        cache: str = "full",
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        filters: Sequence[LogitFilter] = (),
        draft: "Model | None" = None,
        lookup: bool = False,
        n_drafted: int | None = None,
        regex: str | None = None,
        json_schema: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Iterator[str]:
        """Continue the prompt; the text comes in pieces, as soon as each is sure.

        `settings` are those of `Sampling`, and of `Constraints` `no_repeat_ngram_size`, `min_length` and
        `min_new_tokens`; what is left out is as the model's files say, or as usual (temperature 0.8, top_p 0.95).
        `filters` are functions of the logits (N, V) of the N texts and of their tokens so far,
        which give the logits that a token is chosen by. Ids that stand for no text, those with which a vocabulary is
        padded behind the tokenizer's last, are never chosen; `transformers` may choose them. `draft` is a smaller model
        of the same vocabulary that guesses what comes, and `lookup` guesses what has come before (`drafter`): the text
        keeps its distribution. With `regex` or `json_schema` the whole text is one that the expression matches, or the
        schema describes, unless it is cut short by `max_new_tokens` or the context.

        What cannot be served raises at once, before the first piece is asked for.
        """
        sampling, constraints = self.chosen_by(settings)
        pieces = self.stream(
            [prompt],
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            constraints=constraints,
            cache=cache,
            stop=stop,
            ignore_eos=ignore_eos,
            filters=filters,
            drafter=self.drafter(draft, lookup=lookup, n_drafted=n_drafted),
            guide=self.guide(regex, json_schema, ignore_eos=ignore_eos),
        )
        return (piece.text for piece in pieces)

    def guide(
        self,
        regex: str | None = None,
        json_schema: Mapping[str, Any] | None = None,
        *,
        end_ids: frozenset[int] = frozenset(),
        ignore_eos: bool = False,
    ) -> Guide | None:
        """What lets only texts come that an expression matches, or a JSON schema describes; None without either.

        The text ends with one of `stop_tokens`, or of `end_ids`. What an expression or a schema has that is not
        followed is an error, not passed over.
        """
        if regex is None and json_schema is None:
            return None
        if ignore_eos:
            raise GenerationError("A guided text has an end: it cannot go on past it.")
        return Guide(needs_tokenizer(self), self.stop_tokens | end_ids, regex=regex, json_schema=json_schema)

    def drafter(
        self, draft: "Model | None" = None, *, lookup: bool = False, n_drafted: int | None = None
    ) -> Drafter | None:
        """What guesses several tokens at once for this model, which verifies them all in one pass: another model, or
        a look at what has followed the same tokens before; None where there is nothing to guess with.

        What is sampled keeps its distribution, and what is most likely stays the same but for rounding. Another seed's
        numbers decide than without. `n_drafted` tokens are guessed at once: 4 by a model, 8 by a lookup.
        """
        if lookup and draft is not None:
            raise GenerationError("Tokens are drafted by a model or by lookup: choose one.")
        if draft is None:
            if n_drafted is not None and not lookup:
                raise GenerationError("is for draft and lookup.", setting="n_drafted")
            return Lookup(n_drafted or 8) if lookup else None
        draft.require("language-model")
        if not self._shares_vocabulary(draft):
            raise GenerationError("The model that drafts has another vocabulary: it must have the same tokens.")
        n_tokens = min(each.config.vocab_size for each in (self, draft))
        if self.tokenizer is not None:
            n_tokens = min(n_tokens, self.tokenizer.vocab_size)
        return DraftModel(cast(CausalModel, draft.module), n_drafted or 4, n_tokens=n_tokens)

    def _shares_vocabulary(self, other: "Model") -> bool:
        """Whether the same tokens mean the same; without tokenizers, whether there are as many."""
        if self.tokenizer is None or other.tokenizer is None:
            return bool(self.config.vocab_size == other.config.vocab_size)
        one, another = self.tokenizer, other.tokenizer
        return one.vocab == another.vocab and one.special_tokens == another.special_tokens

    def stream(
        self,
        prompts: Sequence[str | list[int] | tuple[int, ...]],
        *,
        max_new_tokens: int,
        sampling: Sampling,
        constraints: Constraints | None = None,
        cache: str = "full",
        stop: Sequence[str] = (),
        end_ids: frozenset[int] = frozenset(),
        ignore_eos: bool = False,
        special: bool = True,
        filters: Sequence[LogitFilter] = (),
        drafter: Drafter | None = None,
        guide: Guide | None = None,
        logprobs: int | None = None,
        watch: Callable[[NewToken], object] = lambda new: None,
    ) -> Iterator[Piece]:
        """Continue several prompts at once; each piece says which sequence it belongs to, and the last why it ended.

        Without `constraints` the model's files say which tokens may come. A text ends with `stop_tokens`, and here with
        `end_ids` too. With `ignore_eos` it goes on past its end, which shows as an empty line. Without `special`, as in
        answers, special tokens within a text have no text, and one that begins a text does not end it; one in whose own
        text a string of `stop` is ends it all the same.
        """
        tokenizer = needs_tokenizer(self)
        encoded = [prompt if isinstance(prompt, list | tuple) else self.encode(prompt) for prompt in prompts]
        stopping = frozenset() if special else stops_within(tokenizer.special_tokens, stop)
        ends = (self.stop_tokens if special else self.eos_ids) | end_ids | stopping
        tokens = self.tokens(
            encoded,
            max_new_tokens,
            sampling,
            cache,
            stop_tokens=stopping if ignore_eos else ends,
            constraints=constraints,
            filters=filters,
            drafter=drafter,
            guide=guide,
            logprobs=logprobs,
        )
        unwritten = frozenset() if special else tokenizer.skipped_ids
        return stream_text(
            watched(tokens, watch),
            tokenizer,
            prompts=encoded,
            stop=stop,
            eos_ids=ends,
            unwritten=unwritten,
            cancel=tokens.cancel,
        )

    def continuations(
        self,
        prompt: str | Sequence[int] = "",
        *,
        n: int = 1,
        best_of: int | None = None,
        beams: Beams | None = None,
        logprobs: int = 0,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
        constraints: Constraints | None = None,
        cache: str = "full",
        stop: Sequence[str] = (),
        end_ids: frozenset[int] = frozenset(),
        special: bool = True,
        filters: Sequence[LogitFilter] = (),
        drafter: Drafter | None = None,
        guide: Guide | None = None,
    ) -> list[Continuation]:
        """The `n` best of `best_of` continuations that are drawn, by the mean log-probability of their tokens.

        With `beams`, those that a search holds best. Each of the tokens comes with its log-probability, and with those
        of `logprobs` of the likeliest; a search has none. The other settings are those of `stream`.
        """
        tokenizer = needs_tokenizer(self)
        n_drawn = n if best_of is None else best_of
        check_counts(n, n_drawn)
        encoded = self.encode(prompt) if isinstance(prompt, str) else list(prompt)
        news: list[list[NewToken]] = [[] for _ in range(n_drawn)]
        if beams is None:
            pieces = self.stream(
                [encoded] * n_drawn,
                max_new_tokens=max_new_tokens,
                sampling=sampling or self.sampling,
                constraints=constraints,
                cache=cache,
                stop=stop,
                end_ids=end_ids,
                special=special,
                filters=filters,
                drafter=drafter,
                guide=guide,
                logprobs=logprobs,
                watch=lambda new: news[new.sequence].append(new),
            )
            scores: list[float] = []
        else:
            if best_of is not None or drafter is not None or logprobs:
                raise GenerationError(
                    "A search is by itself:",
                    python="without best_of, logprobs, draft and lookup.",
                    command="without --best-of, --logprobs, --draft and --lookup.",
                )
            if n > beams.n_beams:
                raise GenerationError(f"must be from 1 to the {beams.n_beams} beams, not {n}.", setting="n")
            self.require("language-model")
            stopping = frozenset() if special else stops_within(tokenizer.special_tokens, stop)
            ends = self.stop_tokens | end_ids | stopping
            (hypotheses,) = beam_search(
                cast(CausalModel, self.module),
                [encoded],
                beams=beams,
                n_best=n,
                max_new_tokens=max_new_tokens,
                stop_tokens=ends,
                cache=cache,
                n_tokens=tokenizer.vocab_size,
                constraints=self.constraints if constraints is None else constraints,
                filters=filters,
                guide=guide,
            )
            scores = [each.score for each in hypotheses]
            tokens = tokens_of(hypotheses)
            pieces = stream_text(
                watched(tokens, lambda new: news[new.sequence].append(new)),
                tokenizer,
                prompts=[encoded] * len(hypotheses),
                stop=stop,
                eos_ids=ends,
                unwritten=frozenset() if special else tokenizer.skipped_ids,
            )
        texts = [""] * n_drawn
        finishes: list[Finish] = ["length"] * n_drawn
        for piece in pieces if special else without_margin(pieces):
            texts[piece.sequence] += piece.text
            finishes[piece.sequence] = piece.finish or finishes[piece.sequence]
        written = [
            Continuation(
                text=text,
                finish=finishes[i],
                tokens=tuple(of_text),
                score=mean_logprob(of_text) if beams is None else scores[i],
            )
            for i, (text, of_text) in enumerate(zip(texts, news, strict=True))
            if of_text
        ]
        return sorted(written, key=lambda each: -each.score)[:n] if best_of is not None else written

    def tokens(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        sampling: Sampling,
        cache: str,
        *,
        stop_tokens: frozenset[int],
        constraints: Constraints | None = None,
        filters: Sequence[LogitFilter] = (),
        drafter: Drafter | None = None,
        guide: Guide | None = None,
        logprobs: int | None = None,
    ) -> Generation:
        """The same on tokens: each new one with its sequence."""
        self.require("language-model")
        return generate(
            self.module,  # type: ignore[arg-type]
            prompts,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            cache=cache,
            stop_tokens=stop_tokens,
            n_tokens=None if self.tokenizer is None else self.tokenizer.vocab_size,
            constraints=self.constraints if constraints is None else constraints,
            filters=filters,
            drafter=drafter,
            guide=guide,
            logprobs=logprobs,
        )

    def generate_ids(
        self,
        tokens: Tensor | Sequence[Any],
        *,
        max_new_tokens: int = 256,
        cache: str = "full",
        ignore_eos: bool = False,
        filters: Sequence[LogitFilter] = (),
        drafter: Drafter | None = None,
        guide: Guide | None = None,
        **settings: Any,
    ) -> Int[Tensor, "B N"]:
        """The prompts with their continuations; a sequence that has ended is filled with its last token.

        Of a model with a tokenizer, ids behind the tokenizer's last are never chosen, which `transformers` may choose.
        """
        if not isinstance(tokens, Tensor):
            tokens = _token_ids(tokens)
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise GenerationError(
                f"Token ids are whole numbers of shape (batch, positions), such as torch.tensor([[1, 2, 3]]), not "
                f"{tokens.dtype} of shape {tuple(tokens.shape)}."
            )
        rows: list[list[int]] = tokens.tolist()
        sampling, constraints = self.chosen_by(settings)
        ends = frozenset() if ignore_eos else self.stop_tokens
        for new in self.tokens(
            tokens.tolist(),
            max_new_tokens,
            sampling,
            cache,
            stop_tokens=ends,
            constraints=constraints,
            filters=filters,
            drafter=drafter,
            guide=guide,
        ):
            rows[new.sequence].append(new.token)
        longest = max(map(len, rows))
        return torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows])

    # ---- conversations

    def chat_template(self, name: str = "", *, tools: Tools | None = None) -> ChatTemplate:
        """The chat template of this name in its files; without a name the usual one, or with tools the one for them."""
        self.require("language-model")
        tokenizer = needs_tokenizer(self)
        rest = self.rest.for_model(tokenizer, self.source_tokenizer, None)
        return template_of(rest.contents, tokenizer, name=name, tools=tools)

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Tools | None = None,
        template: str = "",
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation, as the chat template in its files writes it, up to where the answer begins."""
        chosen = self.chat_template(template, tools=tools)
        return chosen.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)

    def chat_prompt(
        self, messages: Sequence[ChatMessage], *, tools: Tools | None = None, template: str = ""
    ) -> ChatPrompt:
        """The tokens of the same text, and those that end the answer beside `eos_ids`."""
        chosen = self.chat_template(template, tools=tools)
        return prompt_of(chosen, needs_tokenizer(self), messages, tools=tools)

    def chat(self, messages: Sequence[ChatMessage], **settings: Any) -> str:
        """The answer to a conversation such as [{"role": "user", "content": "Hello!"}]; `answer` has the settings.

        It is the most likely text, token by token, and the same for every seed, unless the settings or the model's
        files say how to draw one (`temperature`, `top_k`, `top_p`, `min_p`).

        Special tokens in messages are text. So they are in those of the assistant, where a model may have been led to
        spell "<|im_end|>" in letters: its message does not end there in the next prompt. Those that it writes as tokens
        within the answer are left out of its text.
        """
        return "".join(self.answer(messages, **settings)).strip()

    def answer(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Tools | None = None,
        template: str = "",
        max_new_tokens: int = 1024,
        cache: str = "full",
        stop: Sequence[str] = (),
        filters: Sequence[LogitFilter] = (),
        **settings: Any,
    ) -> Iterator[str]:
        """The same in pieces, as soon as each is sure; what cannot be served raises at once.

        `tools` are JSON schemas of functions that it may ask for, `template` names one of several chat templates. The
        rest is as for `generate`, except that the most likely token is taken where neither the settings nor the model's
        files say how to draw one.
        """
        sampling, constraints = self.chosen_by(settings, answers=True)
        prompt = self.chat_prompt(messages, tools=tools, template=template)
        pieces = self.stream(
            [prompt.tokens],
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            constraints=constraints,
            cache=cache,
            stop=stop,
            end_ids=prompt.end_ids,
            special=False,
            filters=filters,
        )
        return (piece.text for piece in without_margin(pieces))

    def conversation(
        self,
        *,
        system: str = "",
        tools: Tools | None = None,
        template: str = "",
        max_new_tokens: int = 1024,
        cache: str = "full",
        stop: Sequence[str] = (),
        filters: Sequence[LogitFilter] = (),
        **settings: Any,
    ) -> Conversation:
        """A conversation that goes on, question by question: `ask` gives the answers, and reads only what is new.

        `system` is what the model is told before all else. The other settings are those of `answer`.
        """
        chosen = self.chat_template(template, tools=tools)
        sampling, constraints = self.chosen_by(settings, answers=True)
        module: Any = self.module
        tokenizer = needs_tokenizer(self)
        engine = Engine(module, parse_policy(cache, self.config.context_length), n_tokens=tokenizer.vocab_size)
        request = Request(
            tokens=(),
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            stop_tokens=self.eos_ids,
            constraints=constraints,
            filters=tuple(filters),
        )
        talk = Conversation(
            engine=engine, tokenizer=tokenizer, template=chosen, request=request, stop=stop, tools=tools
        )
        talk.system = system
        return talk

    def translate(self, *texts: str, beams: Beams | None = None, **limits: Any) -> list[str]:
        """Each text's translation; some beams search for it, one writes greedily (see `translations`).

        Where its files do not say how many, there are four.
        """
        translations = [""] * len(texts)
        for piece in self.translations(texts, beams=beams or self.beams, **limits):
            translations[piece.sequence] += piece.text
        return translations

    def translations(self, texts: Sequence[str], *, beams: Beams, **limits: Any) -> Iterator[Piece]:
        """The same in pieces, as they come; `limits` are those of `inference/translate.py`, and `OF_CALLS`."""
        self.require("encoder-decoder")
        rules = {name: limits.pop(name) for name in [*limits] if name in OF_CALLS}
        if unknown := limits.keys() - {"max_new_tokens", "batch_size"}:
            names = ", ".join(("max_new_tokens", "batch_size", *OF_CALLS))
            raise GenerationError(f"There is no setting {min(unknown)} of a translation; there are {names}.")
        constraints = replace(self.constraints, **rules)
        return translation.translations(self, texts, beams=beams, constraints=constraints, **limits)

    def transcribe(
        self,
        recording: str | Path | Recording | Float[Tensor, " N"],
        options: Options | None = None,
        *,
        progress: Callable[[float, float], None] | None = None,
        **settings: Any,
    ) -> Transcript:
        """What is said in a file, or in a waveform at 16 kHz; `settings` are those of `Options`, such as `language`."""
        self.require("speech-recognizer")
        check_names(Options, settings, "setting")
        options = replace(options or Options(), **settings)
        source = Path(recording) if isinstance(recording, str) else recording
        return transcribe(cast(Whisper, self.module), sound.speech_of(self), source, options, progress=progress)

    def classify(self, *images: str | Path | Image.Image | Float[Tensor, "K H W"], top_k: int = 5) -> list[list[Guess]]:
        """The likeliest classes of each image, the likeliest first; tensors are taken as the model's own pixels.

        An encoder with a head for classes takes texts.
        """
        self.require("image-classifier", "encoder")
        if self.kind == "encoder":
            for text in images:
                _check_type("An encoder's classify", "texts", text, str)
            return encoder.classify(self, cast(tuple[str, ...], images), top_k=top_k)
        processor = image.processor_of(self)
        guesses = []
        for source in images:
            if isinstance(source, Tensor):
                pixels = source[None]
            else:
                pixels = processor([open_image(Path(source)) if isinstance(source, str | Path) else source])
            guesses += classify(self.module, pixels, top_k=top_k)
        return guesses

    def embed(self, *texts: str, pooling: Pooling = "mean", normalise: bool = True) -> Float[Tensor, "B C"]:
        """One vector a text, of length 1 unless `normalise` is False: a dot product of two is then their cosine."""
        self.require("encoder")
        tokens = [kind_of(self).tokens(self, text) for text in texts]
        return embed(cast(Bert, self.module), tokens, pooling=pooling, normalise=normalise)

    def evaluate(self, data: str | Path, *, progress: Progress = lambda done, total: None, **settings: Any) -> Metrics:
        """How good it is on some data, by the figures that papers give for its kind.

        Loss (nats a token) and perplexity, BLEU and chrF, accuracy, or word error rate; `settings` are those of
        `measure` in the kind's module of `kinds/`. `progress(done, all)` is told units of the data.
        """
        kind = kind_of(self)
        self.require(*(name for name, each in kinds().items() if each.measure is not None))
        for name in ("limit", "batch_size", "max_new_tokens"):
            if (value := settings.get(name)) is not None and value < 1:
                raise ConfigError(f"must be at least 1, not {value}.", setting=name)
        if foreign := sorted(settings.keys() - set(kind.measure_settings)):
            raise ConfigError(f"is not for {IN_WORDS[kind.name]}, which this model is.", setting=foreign[0])
        figures: Metrics = cast(Callable[..., Metrics], kind.measure)(self, str(data), progress=progress, **settings)
        return figures


def _token_ids(tokens: Sequence[Any]) -> Tensor:
    try:
        return torch.tensor(tokens)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise GenerationError(
            f"Token ids come as a tensor of shape (batch, positions), or as lists of one length: {error}."
        ) from None


def _check_type(function: str, what: str, value: object, *types: Any) -> None:
    """Raise a `ConfigError` where a public function was called with something else than it takes."""
    if not isinstance(value, types):
        raise ConfigError(f"{function} takes {what}, not {type(value).__name__}.")


def check_names(record: type[Any], settings: Mapping[str, Any], what: str) -> None:
    """Raise where a setting is none of a record's fields."""
    names = [field.name for field in fields(record)]
    if unknown := [name for name in settings if name not in names]:
        raise GenerationError(f"There is no {what} {unknown[0]}; there are {', '.join(names)}.")


def build(name: str, *, seed: int = 0, tokenizer: Tokenizer | None = None, **changes: Any) -> Model:
    """A model with random weights: a preset or an architecture by its name, with changes such as `n_layers=2`.

    The model that sorts letters comes with their tokenizer.
    """
    _check_type("build", "the name of a preset or of an architecture", name, str)
    if not 0 <= seed < 2**63:
        raise ConfigError(f"must be from 0 to 2⁶³ − 1, not {seed}.", setting="seed")
    config = models.configure(name, changes)
    if tokenizer is None and name == "nano-sort" and config.vocab_size == len(LETTERS):
        tokenizer = CharTokenizer(LETTERS)
    module = models.spec_of(config).build(config, torch.Generator().manual_seed(seed)).eval()
    return Model(Checkpoint(module=module, config=config, tokenizer=tokenizer, note="its weights are random"))


def load(
    source: str | Path,
    *,
    from_pickle: bool = False,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = torch.float32,
    context_length: int | None = None,
    revision: str | None = None,
    quantize: Quantization | Literal["keep"] | None = None,
    progress: DownloadProgress | None = None,
    **options: Any,
) -> Model:
    """A model from a checkpoint directory, a published file, the Hub (`org/name`), or `preset:NAME` (random weights).

    Of the Hub, "org/name@REVISION" or `revision` is a branch, a tag or a commit, and "org/name/model.gguf" one file;
    what is at such a path on the disk goes first. `progress(bytes, of_all)` is told how far the download is.
    "nano-sort", which the package carries, sorts six letters; `glassformer demo` trains it anew. `from_pickle` allows
    files that torch pickled; they are read with `weights_only`, after their size is checked. With dtype None the
    weights keep the type that they have on disk; the device "auto" is the fastest of this machine. `context_length` is
    how many tokens are read at once, where the files say less than the model can or was scaled for; positions that are
    learned have no others. With `quantize` the matrices become whole numbers of 8 bits ("int8") or 4 ("int4"), with a
    scale for each 32 (`inference/quantize.py`), or stay as a GGUF file has them ("keep"): it then takes about as much
    memory as disk. `options` are what a format must be told because no tensor tells it, such as `n_heads=8`.
    """
    _check_type("load", "a path", source, str, Path)
    if not str(source).strip():
        raise CheckpointError(
            "A model is a checkpoint's path, and this name is empty; preset:NAME gives random weights."
        )
    place, precision = choose_device(str(device))[0], None if dtype is None else precision_of(dtype)
    if quantize is not None:
        if quantize not in (*QUANTIZATIONS, "keep"):
            raise ConfigError(
                f"is {quantize!r}, and there are {', '.join(QUANTIZATIONS)} and keep.", setting="quantize"
            )
        check_precision(precision)
    name = hub.parse(source) if isinstance(source, str) else None
    if revision is not None:
        if name is None or name.revision is not None or os.path.exists(source):
            raise ConfigError(f"is for names on the Hub that have none yet, not for {source}.", setting="revision")
        name = replace(name, revision=revision)
    if isinstance(source, str) and source.startswith("preset:"):
        if options:
            raise ConfigError(f"{next(iter(options))} is for files, and {source} is none: build takes other sizes.")
        length: dict[str, Any] = {} if context_length is None else {"context_length": context_length}
        return _quantized(build(source.removeprefix("preset:"), **length).to(dtype=precision), quantize).to(place)
    path = Path(source)
    if source in PRETRAINED and not path.exists():
        path = Path(__file__).parent / "pretrained" / source
    settings: dict[str, Any] = {
        "from_pickle": from_pickle,
        "dtype": precision,
        "context_length": context_length,
        "options": options,
        "keep_quantized": quantize == "keep",
    }
    try:
        checkpoint = checkpoints.load(path, **settings)
    except CheckpointError:
        if os.path.exists(path):  # False of a text that is too long for one
            raise
        if name is None:
            hint = (
                f"Did you mean preset:{source}?" if source in models.presets() else "preset:NAME gives random weights."
            )
            raise CheckpointError(f"A model is a checkpoint's path, and there is nothing at {source}. {hint}") from None
        fetched = hub.fetch(name, from_pickle=from_pickle, on_progress=progress)
        checkpoint = checkpoints.load(fetched.path, **settings)
        checkpoint = replace(checkpoint, origin=fetched.origin)
    if checkpoint.is_quantized:
        check_precision(precision)
    return _quantized(Model(checkpoint), quantize).to(place)


def _quantized(model: Model, quantization: Quantization | Literal["keep"] | None) -> Model:
    """The model, its layers replaced where that is asked for."""
    if quantization == "keep" and not is_quantized(model.module):
        raise ConfigError("is keep, which is for files whose matrices are quantized.", setting="quantize")
    if quantization is not None and quantization != "keep":
        quantize_module(model.module, quantization)
    return model


def check_precision(precision: torch.dtype | None) -> None:
    """Raise where a quantized model was to compute in another precision than its own."""
    if precision not in (None, torch.float32):
        raise ConfigError("must be float32, in which a quantized model computes.", setting="dtype")


def precision_of(dtype: str | torch.dtype) -> torch.dtype:
    """The type of numbers of this name, if models run in it."""
    name = str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        raise ConfigError(f"is {dtype}, and models run in {', '.join(PRECISIONS)}.", setting="dtype")
    return PRECISIONS[name]


def save(model: Model, directory: str | Path, *, native: bool = False, overwrite: bool = False) -> Path:
    """Write a Hugging Face directory that `transformers` loads too, or that we alone do where `native` allows it.

    An earlier one is replaced with `overwrite` alone, and never a folder that holds anything else.
    """
    _check_type("save", "a Model", model, Model)
    return checkpoints.save_checkpoint(model.checkpoint, Path(directory), native=native, overwrite=overwrite)


# ---- traces


def explain_cell(trace: Trace, path: str, *index: int, depth: int = 1) -> Explanation:
    """The arithmetic behind one cell of the tensor of this name."""
    return explain(trace[path][index], depth)


def export(trace: Trace, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the 3D page of a trace: one .html file, which opens from the disk, or a folder for a web server."""
    from glassformer.viewer.export import export

    return export(trace, Path(path), overwrite=overwrite)


# What can be done with a trace, as its verbs: the class is in the lowest file of its package, and these are above it.
Trace.check, Trace.explain, Trace.patch, Trace.save, Trace.export = check, explain_cell, patch, trace_file.save, export


def trace(
    model: Model | nn.Module,
    *given: Any,
    modules: str | Sequence[str] = "*",
    positions: slice | None = None,
    decompose: bool = False,
    max_bytes: int = 4 * GIB,
    **keywords: Any,
) -> Trace:
    """Record a forward pass: of a `Model`, given a text, tokens or a file, or of any module, given its inputs.

    Models of ours run as their readable equations (`use("readable", attention="naive")`). Of a language model,
    `positions` records some tokens only: those before them are read first, unrecorded, into a cache. For the rest see
    `tracing.recorder.record`.
    """
    _check_type("trace", "a Model or a torch.nn.Module", model, Model, nn.Module)
    module = model.module if isinstance(model, Model) else model
    call, arguments = _one_pass(model, given) if isinstance(model, Model) else (nn.Module.__call__, given)
    with use("readable", attention="naive"):
        if positions is not None:
            arguments = read_before(module, arguments, positions)
        return record(
            module, *arguments, call=call, modules=modules, decompose=decompose, max_bytes=max_bytes, **keywords
        )


def compare(
    a: Model | nn.Module | Trace,
    b: Model | nn.Module | Trace,
    *given: Any,
    tolerance: float | None = None,
    as_is: bool = False,
    **keywords: Any,
) -> Comparison:
    """Where two that should compute the same part: the first operation on either side, and what explains it.

    Each is a `Model`, any module, or a trace that was recorded before; models and modules are given the same inputs.
    They run as copies in float64, where rounding hides nothing, or `as_is`, as what is quantized always does.
    `tolerance` is relative; see `tracing.compare`.
    """
    for each in (a, b):
        _check_type("compare", "Models, torch.nn.Modules or Traces", each, Model, nn.Module, Trace)
    if isinstance(a, Trace) and isinstance(b, Trace) and (given or keywords):
        raise ConfigError("compare takes no inputs for two traces, which have theirs.")
    modules = [each.module if isinstance(each, Model) else each for each in (a, b) if not isinstance(each, Trace)]
    wide = not as_is and len(modules) == 2 and not any(is_quantized(module) for module in modules)
    first, second = (_steps_of(name, each, given, keywords, wide=wide) for name, each in (("A", a), ("B", b)))
    return compare_traces(first, second, tolerance=tolerance)


def _steps_of(
    name: str, side: Model | nn.Module | Trace, given: tuple[Any, ...], keywords: dict[str, Any], *, wide: bool
) -> Trace:
    """A side of a comparison, recorded step by step."""
    if isinstance(side, Trace):
        return side
    call, arguments = _one_pass(side, given) if isinstance(side, Model) else (nn.Module.__call__, given)
    module = side.module if isinstance(side, Model) else side
    if wide:
        module = copy.deepcopy(module).double()
        arguments, keywords = _in_float64((arguments, keywords))
    try:
        with use("readable", attention="naive"):
            return record(module, *arguments, call=call, decompose=True, **keywords)
    except (TypeError, IndexError, ValueError, RuntimeError) as error:
        if isinstance(error, GlassformerError):
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TraceError(f"{name} does not run on this input: {reason}.") from error


def _in_float64(value: Any) -> Any:
    """Inputs, their fractions in float64."""
    match value:
        case Tensor() if value.is_floating_point():
            return value.double()
        case dict():
            return {name: _in_float64(part) for name, part in value.items()}
        case list() | tuple():
            return type(value)(map(_in_float64, value))
    return value


def load_trace(path: str | Path) -> Trace:
    """A trace that was kept: a directory, or a .gft file. It can be explained and checked, but not run again."""
    _check_type("load_trace", "a path", path, str, Path)
    return trace_file.load(Path(path))


def view(
    shown: Model | Trace, given: str | Path | Sequence[int] | None = None, *, port: int = 0, open: bool = True
) -> Any:
    """Walk through a model, given a text, tokens or a file, or through a recorded pass, in 3D and in the browser.

    In a notebook the page stands in the output of the cell, as a recording. Elsewhere a server runs it until Ctrl-C.
    """
    _check_type("view", "a Model or a Trace", shown, Model, Trace)
    from glassformer.viewer import notebook
    from glassformer.viewer.export import page_of
    from glassformer.viewer.serve import listen, open_browser, serve
    from glassformer.viewer.session import Session

    if isinstance(shown, Model):
        session = Session(shown, name=type(shown.module).__name__)
        kind = kind_of(shown)
        session.start(kind.example(shown) if given is None else kind.read(shown, given))
    else:
        session = Session.of_trace(shown)
    if notebook.in_notebook():
        return notebook.shown(page_of(session))

    def ready(address: str) -> None:
        print(f"{address}\nCtrl-C ends it.")
        if open:
            open_browser(address)

    with listen("127.0.0.1", port) as listening:
        serve(session, listening, on_ready=ready)
    return None


def _one_pass(model: Model, inputs: tuple[Any, ...]) -> tuple[ModelCall, tuple[Any, ...]]:
    """What is to be called with what: tensors are taken as they are, tokens of a single text get a batch axis."""
    if len(inputs) == 1 and isinstance(inputs[0], str | Path | list):
        inputs = (kind_of(model).read(model, inputs[0]),)
    if len(inputs) == 1 and isinstance(inputs[0], Inputs):
        return kind_of(model).call(model, inputs[0])
    if inputs and not isinstance(inputs[0], list | Tensor):
        raise TraceError(
            f"A model reads a text, a file's path, a list of tokens or tensors, not {type(inputs[0]).__name__}."
        )
    tensors = [torch.tensor(each) if isinstance(each, list) else each for each in inputs]
    tensors = [each[None] if isinstance(each, Tensor) and each.ndim == 1 else each for each in tensors]
    if tensors and model.kind != "image-classifier" and isinstance(tensors[-1], Tensor):
        model.check_length(tensors[-1])
    return call_of(model.module), tuple(tensors)


def read_before(module: nn.Module, inputs: Sequence[Any], positions: slice) -> tuple[Any, ...]:
    """The tokens at the chosen positions, and the state of the model when it has read those before them."""
    if not hasattr(module, "begin") or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        raise TraceError("positions needs a language model of ours, and its tokens alone.")
    tokens = inputs[0]
    start, stop, step = positions.indices(tokens.shape[-1])
    if step != 1 or start >= stop:
        raise TraceError(f"positions must be a stretch of the {tokens.shape[-1]} tokens, not {positions}.")
    if start == 0:
        return (tokens[:, :stop],)
    begin: Any = module.begin
    state = begin(None, full(stop))
    with torch.no_grad():
        module(tokens[:, :start], state)
    return tokens[:, start:stop], state
