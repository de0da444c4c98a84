"""The decode engine: the one loop in which texts are continued, token by token.

Rows of a batch come, branch and go while others run; each is continued as its own request asks. A step reads the tokens
that the step before chose, prefills what was admitted since, and chooses the next tokens. Of a model it asks `begin`
and `forward`, of a state that its rows can be selected, branched and joined (`models/spec.py`): any autoregressive
model has them. One thread drives an engine. Next to read: `request.py`, `logits.py`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.decode_plan import LazyPlan
from glassformer.inference.latest_logits import latest_logits
from glassformer.inference.logits import NOT_FINITE, LogitFilter, choose, distribution, draw, finite_rows
from glassformer.inference.padding import left_padded, right_padded
from glassformer.inference.recent_texts import RECENT_BYTES, WORTH, Prefix, RecentTexts
from glassformer.inference.request import NewToken, Request, is_encoder_decoder
from glassformer.inference.speculative import Draft, Drafter, Unfinished, verified
from glassformer.inference.stopping import finish_of
from glassformer.models.spec import CausalModel, ReadsTexts, Rewindable, State, longest_text
from glassformer.nn.kv_cache import KVCache, Policy
from glassformer.nn.rope import RopeScaling

T = TypeVar("T")
NONE_LEFT = "The filters of a request leave no token that could come next."
NO_LOGPROB = float("nan")  # the log-probability of a token for which it was not asked
AT_ONCE = 256  # tokens of a prompt that are read at once: for more, the memory between two layers comes from the system
NO_DRAFT, NO_LOGITS = Draft(), torch.empty(0, 0)


@dataclass(slots=True, eq=False)
class Live:
    """A request that waits or is being served: its `rows` of the batch, and the tokens `chosen` for them."""

    id: int
    request: Request
    settings: Hashable  # requests with equal ones are sampled together
    random: torch.Generator
    tokens: list[int]  # of the prompt, and those that have come
    filters: tuple[LogitFilter, ...]  # by the constraints of the request, and its own
    rows: list[int] = field(default_factory=list)
    chosen: list[list[int]] = field(default_factory=list)  # what each row is to read
    draft: Draft = NO_DRAFT  # is read behind it
    after_draft: Float[Tensor, "k V"] = NO_LOGITS  # the logits after each of its tokens
    n_accepted: int = 0  # of its tokens
    seen: Bool[Tensor, " V"] | None = None  # which tokens of the vocabulary have come, for a repetition penalty

    def append(self, token: int) -> None:
        """One more token has been chosen."""
        self.tokens.append(token)
        self.chosen = [[token]]
        if self.seen is not None:
            self.seen[token] = True

    @property
    def n_read(self) -> int:
        """How many tokens of the text its row has taken in."""
        return len(self.tokens) - len(self.chosen[0])

    @property
    def unread(self) -> list[list[int]]:
        """What each of its rows reads next."""
        return [[*tokens, *self.draft.tokens] for tokens in self.chosen]

    def seen_of(self, vocab_size: int) -> Bool[Tensor, " V"]:
        """Which tokens of the vocabulary it has already."""
        if self.seen is None:
            self.seen = torch.zeros(vocab_size, dtype=torch.bool)
            self.seen[[token for token in self.tokens if token < vocab_size]] = True
        return self.seen


class Beginning(NamedTuple):
    """So many tokens of a text need not be read, since they have been read as those of a prefix."""

    prefix: Prefix | None = None
    n_tokens: int = 0


class Engine:
    """Continues requests side by side; what becomes of one does not depend on its neighbours.

    A request that cannot go on ends with finish "error", and the others go on. `policy` says what each row's cache
    keeps. With `n_tokens`, ids from there on never come: some models embed more tokens than their tokenizer has.
    `begin(n)` makes a state of n rows where the model's own would encode a source that is encoded already. With
    `n_rows`, a language model's state is static: so many rows at most run at once, in buffers and shapes that never
    change, and what is admitted beyond that waits. A `drafter` guesses several tokens a step, which one pass verifies:
    texts come sooner, with the same distribution (`speculative.py`). Once a cache is full from which old tokens leave,
    nothing is drafted any more, since what has left cannot be brought back.

    The caches of texts that have ended are kept, in `recent_bytes` at most, 256 MB by default: a request that begins as
    one of them reads only what differs, as the next turn of a conversation does. Nothing is begun so under hooks, nor
    after the module's weights have changed.
    """

    def __init__(
        self,
        module: CausalModel,
        policy: Policy,
        *,
        n_tokens: int | None = None,
        begin: Callable[[int], State] | None = None,
        n_rows: int | None = None,
        drafter: Drafter | None = None,
        recent_bytes: int = RECENT_BYTES,
    ) -> None:
        if n_rows is not None and n_rows < 1:
            raise GenerationError(f"must be at least 1, not {n_rows}.", setting="n_rows")
        if policy.capacity > longest_text(module.config):
            raise GenerationError(
                f"The cache {policy.name} keeps {policy.capacity} tokens, but this model has "
                f"{module.config.context_length} positions."
            )
        self.module, self.policy, self.n_tokens, self.n_rows = module, policy, n_tokens, n_rows
        self.device = next(iter(module.parameters())).device
        self.drafter = drafter
        self._begin = begin
        self._needs_sources = begin is None and is_encoder_decoder(module.config)
        self._scaling: RopeScaling | None = getattr(module.config, "rope_scaling", None)
        self._plan = LazyPlan(module)
        self._ids = count()
        self._waiting: list[Live] = []
        self._live: list[Live] = []  # whose prompts have been read
        self._interrupted: list[Live] = []  # by a step that did not come to its end
        self._state: State | None = None
        self._logits: Float[Tensor, "rows V"] = torch.empty(0, 0)  # after the last token of each row, on the CPU
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        is_plain = begin is None and not self._needs_sources and n_rows is None
        self._recent = RecentTexts(module, recent_bytes if is_plain else 0)
        if drafter is not None:
            self.most_forgotten()

    def most_forgotten(self) -> int:
        """How long a text may be so that the latest of its tokens can be forgotten; raises where none can."""
        if self._needs_sources or self._begin is not None or self.n_rows is not None:
            raise GenerationError("Tokens are drafted for language models, in rows that are not static.")
        state = self.module.begin(None, self.policy)
        if not isinstance(state, Rewindable):
            raise GenerationError(
                f"A {type(self.module).__name__} cannot forget what it has read, so nothing can be drafted: leave out "
                "draft and lookup."
            )
        return state.spares[0]

    def admit(self, request: Request) -> int:
        """Take in a request, which begins with the next step; its number is `NewToken.sequence`."""
        request.check(self.module.config, self.policy)
        if request.source is not None and self._begin is not None:
            raise GenerationError("What this engine reads is encoded already: a request has no source of its own.")
        if request.source is None and self._needs_sources:
            raise GenerationError("The model is an encoder-decoder: a request needs a source.")
        if request.search is not None and self.n_rows is not None:
            raise GenerationError("A search branches, and static rows do not: leave out n_rows.")
        random = torch.Generator().manual_seed(request.sampling.seed)
        rules = request.constraints.rules(
            len(request.tokens), request.max_new_tokens, request.stop_tokens, request.n_fixed
        )
        wanted = request.logprobs, request.n_likeliest, request.with_probs
        settings = request.sampling.unseeded, rules, tuple(map(id, request.filters)), wanted
        filters = (*rules, *request.filters)
        live = Live(next(self._ids), request, settings, random, list(request.tokens), filters)
        self._waiting.append(live)
        return live.id

    def cancel(self, sequence: int) -> None:
        """End a sequence; its row costs nothing from the next step on. One that has ended already is no error."""
        self._keep([live for live in self._live if live.id == sequence])
        self._waiting = [live for live in self._waiting if live.id != sequence]
        self._live = [live for live in self._live if live.id != sequence]
        self._interrupted = [live for live in self._interrupted if live.id != sequence]

    def follow(self, sequence: int, tokens: Sequence[int]) -> bool:
        """Let a sequence go on from another text, if it runs; what both texts begin with is not read again."""
        for live in (each for each in self._live if each.id == sequence):
            shared = takewhile(
                lambda pair: pair[0] == pair[1], zip(live.tokens[: live.n_read], tokens[:-1], strict=False)
            )
            n_shared = sum(1 for _ in shared)
            self._rewind({live.rows[0]: live.n_read - n_shared})
            live.tokens, live.chosen, live.seen = list(tokens), [list(tokens[n_shared:])], None
            return True
        return False

    @property
    def running(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._live or self._waiting or self._interrupted)

    def run(self) -> Iterator[NewToken]:
        """Step until everything has ended; an error of any sequence is raised."""
        while self.running:
            for new in self.step():
                if new.error is not None:
                    raise new.error
                yield new

    @torch.inference_mode()
    def remember(self, tokens: Sequence[int], *, n_logits: int | None = None) -> Float[Tensor, "1 t V"]:
        """Read a beginning of texts once; requests that begin with it start behind it.

        It starts itself behind the longest beginning that is remembered already. Returns the logits of what is read, or
        of its `n_logits` latest tokens.
        """
        beginning = Request(tokens=tuple(tokens))
        beginning.check(self.module.config, self.policy)
        if self._needs_sources:
            raise GenerationError("Texts about sources of their own have no beginning in common to remember.")
        whole = [prefix for prefix in self._prefixes.values() if prefix.begins(beginning.tokens)]
        prefix, n_read = self._beginning_of(beginning.tokens, whole)
        if n_read == len(beginning.tokens) and prefix is not None and prefix.logits is not None:
            return prefix.logits[:, None]
        state = self._new_state([None]) if prefix is None else prefix.rows(n_read, 1, self.device)
        rest = torch.tensor([beginning.tokens[n_read:]])
        n_logits = rest.shape[-1] if n_logits is None else n_logits
        logits = torch.cat([*self._read(rest, state, None, n_logits)], 1)[:, -n_logits:]
        self._prefixes[beginning.tokens] = Prefix(beginning.tokens, state, logits[:, -1].cpu().clone())
        return logits

    def forget(self, tokens: Sequence[int]) -> None:
        """Give back the memory of a beginning that was remembered; what has begun with it goes on."""
        self._prefixes.pop(tuple(tokens), None)

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """One more token of every sequence that has not ended, in the order in which they were admitted.

        Where Ctrl-C ends a step halfway, nobody knows what the caches have taken in: the sequences that ran end with an
        error at the next step, and those that waited still wait.
        """
        news = _errors(self._interrupted, GenerationError("The step in which it was to go on has been interrupted."))
        self._interrupted = []
        try:
            news += [*self._decode_step(), *self._prefill(), *self._choose()]
        except BaseException:
            self._interrupted, self._live, self._state = self._live, [], None
            raise
        if not self._live and self.n_rows is None:
            self._state, self._logits = None, torch.empty(0, 0)
        return sorted(news, key=lambda new: new.sequence)

    # ---- reading

    def _decode_step(self) -> list[NewToken]:
        """Read what the last step chose; rows that nobody goes on with are dropped first."""
        self._read_outgrown_again()
        if self._state is None or not self._live:
            return []
        parents = [row for live in self._live for row in live.rows]
        try:
            if self.n_rows is not None:
                tokens = torch.tensor([token for live in self._live for (token,) in live.chosen])
                self._logits = self._decode_static(tokens, torch.tensor(parents))
                return []
            if parents != list(range(len(self._logits))):
                self._state.select(torch.tensor(parents, device=self.device))
                self._number_rows()
            self._draft(self._state)
            self._logits = self._read_on(self._state)
        except Exception as error:  # some caches have taken the tokens in, and others not: nobody can go on
            failed, self._live, self._state = self._live, [], None
            return _errors(failed, error)
        return []

    def _draft(self, state: State) -> None:
        """Guess what follows the tokens that are to be read, as far as it could be forgotten again."""
        if self.drafter is None:
            return
        spares = cast(Rewindable, state).spares
        lives: list[Live] = []
        texts: list[Unfinished] = []
        for live in (each for each in self._live if each.request.search is None):
            request, length = live.request, len(live.tokens)
            left = request.max_new_tokens - (length - len(request.tokens))
            at_most = min(spares[live.rows[0]] - len(live.chosen[0]), left - 1)
            if at_most > 0 and self._turn_alike(length, length + at_most):
                lives.append(live)
                sampling = request.sampling
                texts.append(Unfinished(sequence=live.id, tokens=live.tokens, sampling=sampling, at_most=at_most))
        for live, draft in zip(lives, self.drafter.propose(texts), strict=True):
            live.draft = draft

    def _read_on(self, state: State) -> Float[Tensor, "rows V"]:
        """The logits after what was chosen, of every row; those after drafted tokens are kept beside these."""
        texts = [tokens for live in self._live for tokens in live.unread]
        if all(len(tokens) == 1 for tokens in texts):
            return self.decode(torch.tensor(texts, device=self.device), state, None)[:, -1].cpu()
        tokens, valid = right_padded([torch.tensor(each) for each in texts])
        valid = None if valid is None else valid.to(self.device)
        logits = self.decode(tokens.to(self.device), state, valid).cpu()
        latest = [len(tokens) - 1 for live in self._live for tokens in live.chosen]
        for live in self._live:
            start = latest[live.rows[0]] + 1
            live.after_draft = logits[live.rows[0], start : start + len(live.draft.tokens), : self.n_tokens]
        return logits[range(len(texts)), latest]

    def _rewind(self, n_forgotten: Mapping[int, int]) -> None:
        """Forget the latest tokens of some rows."""
        if any(n_forgotten.values()):
            counts = torch.zeros(len(self._logits), dtype=torch.long)
            counts[list(n_forgotten)] = torch.tensor(list(n_forgotten.values()))
            cast(Rewindable, self._state).rewind(counts)

    def decode(self, tokens: Int[Tensor, "B T"], state: State, valid: Bool[Tensor, "B T"] | None) -> Tensor:
        """One decode step of all rows, drafts with it: that of the module's plan, where one serves now, or its own."""
        logits = self._plan.step(tokens, state, valid)
        return self.module(tokens, state, valid) if logits is None else logits

    def _number_rows(self) -> None:
        rows = count()
        for live in self._live:
            live.rows = [next(rows) for _ in live.rows]

    def _prefill(self) -> list[NewToken]:
        """Read the prompts that wait, as many at once as have the same beginning behind them and sources alike."""
        waiting = self._waiting
        if self.n_rows is not None:
            waiting = waiting[: self.n_rows - len(self._live)]
        news = []
        beginnings = {live.id: self._beginning_of(live.tokens) for live in waiting}
        is_read = {live.id: len(live.tokens) == beginnings[live.id].n_tokens for live in waiting}
        for (beginning, _, _), group in grouped(
            waiting, lambda live: (beginnings[live.id], is_read[live.id], _source_shape(live.request))
        ):
            try:
                self._add_rows(group, *self._prefilled(group, beginning))
            except Exception as error:  # the rows that run are as they were
                news += _errors(group, error)
            self._waiting = [live for live in self._waiting if live not in group]
        return news

    def _beginning_of(self, text: Sequence[int], prefixes: Iterable[Prefix] | None = None) -> Beginning:
        """The longest beginning of a text that has been read, with the frequencies of this text's length."""
        if prefixes is None:
            prefixes = [*self._prefixes.values(), *self._recent]
        usable = [each for each in prefixes if self._turn_alike(len(each.tokens), len(text))]
        shared = [Beginning(each, each.n_shared(text)) for each in usable]
        best = max(shared, key=lambda each: each.n_tokens, default=Beginning())
        is_whole = best.prefix is not None and best.n_tokens == len(best.prefix.tokens)
        return best if is_whole or best.n_tokens >= WORTH else Beginning()

    def _keep(self, group: Iterable[Live], *, is_free: bool = False) -> None:
        """Keep what has been read of texts that go on no more; `is_free`: nobody goes on with the state either."""
        if not self._recent.most_bytes:
            return
        for live in group:
            if self._state is None or live.request.search is not None or live.request.source is not None:
                continue
            if self._has_one_turn(live):
                self._recent.keep(live.tokens[: live.n_read], self._state, live.rows[0], is_free=is_free)

    def _has_one_turn(self, live: Live) -> bool:
        """Whether all of its keys turn as those of a text that is read at once, and none by the length of its time."""
        is_read_again = self._scaling is not None and self._scaling.outgrown_at is not None
        return is_read_again or self._turn_alike(len(live.request.tokens), live.n_read)

    def _turn_alike(self, length: int, other: int) -> bool:
        """Whether texts of two lengths turn their queries and keys with the same frequencies."""
        most = self.policy.capacity  # of an endless text, too
        return self._scaling is None or self._scaling.same_at(min(length, most), min(other, most))

    def _read_outgrown_again(self) -> None:
        """Let texts wait that are to be read anew, at once; a search goes on with the keys that it has."""
        if self._scaling is None or self._scaling.outgrown_at is None:
            return
        outgrown = [
            live
            for live in self._live
            if live.request.search is None and not self._turn_alike(live.n_read, len(live.tokens))
        ]
        if outgrown:
            self._live = [live for live in self._live if live not in outgrown]
            self._waiting = [*outgrown, *self._waiting]

    def _prefilled(self, group: list[Live], beginning: Beginning) -> tuple[State, Tensor]:
        """The state after the prompts of a group, and the logits (B, V) of their last tokens."""
        prefix, n_read = beginning
        if prefix is None:
            state, logits = self._new_state([live.request.source for live in group]), NO_LOGITS
        else:
            self._recent.use(prefix)
            state = prefix.rows(n_read, len(group), self.device)
            logits = NO_LOGITS if prefix.logits is None else prefix.logits.expand(len(group), -1)
        if len(group[0].tokens) > n_read:
            prompts, valid = left_padded([live.tokens[n_read:] for live in group])
            *_, latest = self._read(prompts, state, valid)
            logits = latest[:, -1].cpu()
        return state, logits

    def _new_state(self, sources: Sequence[Tensor | None]) -> State:
        """A state of so many rows in which no token has been read; an encoder-decoder reads its sources here."""
        if self._begin is not None:
            return self._begin(len(sources))
        texts = [source for source in sources if source is not None]
        if not texts:
            return self.module.begin(None, self.policy)
        if texts[0].is_floating_point():  # sound or images, of one size
            return self.module.begin(torch.stack(texts).to(self.device), self.policy)
        source, valid = right_padded(texts)
        if valid is None:
            return self.module.begin(source.to(self.device), self.policy)
        return cast(ReadsTexts, self.module).begin(source.to(self.device), self.policy, valid.to(self.device))

    def _read(
        self, tokens: Int[Tensor, "B T"], state: State, valid: Bool[Tensor, "B T"] | None = None, n_logits: int = 1
    ) -> Iterator[Float[Tensor, "B t V"]]:
        """Read prompts, as many tokens at once as the cache has room for: old tokens leave in between.

        Of each piece come the logits of those of its tokens that are among the `n_logits` latest of all.
        """
        tokens = tokens.to(self.device)
        valid = valid if valid is None else valid.to(self.device)
        if isinstance(state, KVCache):
            more = torch.full_like(tokens[:, 0], tokens.shape[-1]) if valid is None else valid.sum(-1)
            state.whole = more if state.lengths is None else state.lengths + more
        start = 0
        while start < tokens.shape[-1]:
            room = state.room
            if room < 1:
                raise GenerationError(f"After {start} tokens of the prompt the model has no room for the next one.")
            piece = slice(start, min(start + min(room, AT_ONCE), tokens.shape[-1]))
            n = max(n_logits - (tokens.shape[-1] - piece.stop), 0)
            yield latest_logits(self.module, tokens[:, piece], state, valid if valid is None else valid[:, piece], n)
            start = piece.stop
        if isinstance(state, KVCache):
            state.whole = None  # what is decoded turns by its own time

    def _add_rows(self, group: list[Live], state: State, logits: Float[Tensor, "B V"]) -> None:
        """Put prefilled rows beside those that run."""
        if isinstance(state, KVCache) and any(policy.endless for policy in state.policies):  # of which tokens may leave
            for row, live in enumerate(group):
                if live.request.source is None:
                    self._recent.keep(live.tokens, state, row, logits[row : row + 1])
        if self.n_rows is not None:
            self._fill_free_rows(group, state, logits)
            return
        if self._state is None:
            self._state, self._logits = state, logits
        else:
            joined = torch.cat([self._logits, logits])
            self._state.join(state)
            self._logits = joined
        for row, live in enumerate(group, start=len(self._logits) - len(group)):
            live.rows = [row]
        self._live += group

    # ---- static rows

    def _decode_static(self, tokens: Int[Tensor, " N"], rows: Int[Tensor, " N"]) -> Float[Tensor, "rows V"]:
        """The same in all rows there are: those that are free read padding."""
        everywhere = torch.zeros(len(self._logits), 1, dtype=torch.long)
        everywhere[rows, 0] = tokens
        valid = torch.zeros_like(everywhere, dtype=torch.bool)
        valid[rows] = True
        state = cast(KVCache, self._state)
        return self.decode(everywhere.to(self.device), state, valid.to(self.device))[:, -1].cpu()

    def _fill_free_rows(self, group: list[Live], state: State, logits: Float[Tensor, "B V"]) -> None:
        """Put prefilled rows into free ones."""
        if not isinstance(state, KVCache):
            raise GenerationError(f"A {type(self.module).__name__} has no static rows: leave out n_rows.")
        if self._state is None:
            self._state = state.branch(torch.zeros(1, dtype=torch.long)).with_static_rows(self.n_rows or 0)
            self._logits = logits[:1].expand(self.n_rows or 0, -1).clone()
        used = {row for live in self._live for row in live.rows}
        free = [row for row in range(len(self._logits)) if row not in used][: len(group)]
        rows = torch.tensor(free)
        cast(KVCache, self._state).replace(rows, state)
        self._logits[rows] = logits
        for live, row in zip(group, free, strict=True):
            live.rows = [row]
        self._live += group

    # ---- choosing

    def _choose(self) -> list[NewToken]:
        """Choose the next tokens: one of each, and one more behind every drafted token that is accepted."""
        if not self._live or self._state is None:
            return []
        rooms, logits = self._state.rooms, self._logits[:, : self.n_tokens]
        finite = finite_rows(logits).tolist()
        sound = [live for live in self._live if all(finite[row] for row in live.rows)]
        broken = [live for live in self._live if not all(finite[row] for row in live.rows)]
        news = _errors(broken, GenerationError(NOT_FINITE))
        going = [live for live in sound if live.request.search is None]
        rows = [live.rows[0] for live in going]
        news += self._choose_one(going, logits if rows == [*range(len(logits))] else logits[rows], rooms)
        while going := self._accepting(going, news):
            after = torch.stack([live.after_draft[live.n_accepted - 1] for live in going])
            finite = finite_rows(after).tolist()
            broken = [live for live, fine in zip(going, finite, strict=True) if not fine]
            going = [live for live, fine in zip(going, finite, strict=True) if fine]
            news += _errors(broken, GenerationError(NOT_FINITE))
            news += self._choose_one(going, after[torch.tensor(finite)], rooms)
        for live in sound:
            if live.request.search is not None:
                over = min(rooms[row] for row in live.rows) == 0
                try:
                    parents, tokens = live.request.search.advance(logits[live.rows], context_over=over)
                except Exception as error:
                    news += _errors([live], error)
                    continue
                live.rows, live.chosen = [live.rows[parent] for parent in parents], [[token] for token in tokens]
        ended = {new.sequence for new in news if new.finish is not None}
        failed = {new.sequence for new in news if new.error is not None}
        self._live = [live for live in self._live if live.rows and live.id not in ended]
        self._keep((live for live in sound if live.id in ended - failed), is_free=not self._live)
        self._rewind({live.rows[0]: len(live.draft.tokens) - live.n_accepted for live in self._live})
        for live in sound:
            if self.drafter is not None:
                self.drafter.speculation.count(len(live.draft.tokens), live.n_accepted)
            live.draft, live.after_draft, live.n_accepted = NO_DRAFT, NO_LOGITS, 0
        return news

    def _choose_one(self, going: list[Live], logits: Float[Tensor, "N V"], rooms: Sequence[int]) -> list[NewToken]:
        """One more token of each, by these logits; requests with equal settings are sampled together."""
        news: list[NewToken] = []
        row_of = {live.id: row for row, live in enumerate(going)}
        for _, similar in grouped(going, lambda live: live.settings):
            try:
                left, possible = _filtered_rows(logits, [row_of[live.id] for live in similar], similar)
                group = [live for live, fine in zip(similar, possible, strict=True) if fine]
                if len(group) < len(similar):
                    left = left[possible]
                choices = _sampled(left, group) if group else []
            except Exception as error:  # of a filter
                news += _errors(similar, error)
                continue
            barred = [live for live, fine in zip(similar, possible, strict=True) if not fine]
            news += _errors(barred, GenerationError(NONE_LEFT))
            for live, choice in zip(group, choices, strict=True):
                live.append(choice.token)
                finish = finish_of(
                    choice.token,
                    stop_tokens=live.request.stop_tokens,
                    n_new_tokens=len(live.tokens) - len(live.request.tokens),
                    max_new_tokens=live.request.max_new_tokens,
                    room=rooms[live.rows[0]] + len(live.draft.tokens) - live.n_accepted,
                )
                news.append(NewToken(sequence=live.id, finish=finish, **choice._asdict()))
        return news

    def _accepting(self, going: list[Live], news: Sequence[NewToken]) -> list[Live]:
        """Those whose latest token is the one that was drafted, and which have not ended."""
        ended = {new.sequence for new in news if new.finish is not None}
        drafted = [live for live in going if live.n_accepted < len(live.draft.tokens) and live.id not in ended]
        accepting = [live for live in drafted if live.tokens[-1] == live.draft.tokens[live.n_accepted]]
        for live in accepting:
            live.n_accepted += 1
        return accepting


def grouped(items: Iterable[Live], key: Callable[[Live], T]) -> list[tuple[T, list[Live]]]:
    """The items by their keys, in the order in which these come first."""
    groups: dict[T, list[Live]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.items())


def _source_shape(request: Request) -> Hashable:
    """Sources of the same form are read in one batch: texts of any length, sounds and images of one size."""
    source = request.source
    if source is None:
        return None
    return tuple(source.shape) if source.is_floating_point() else "text"


def filtered(change: LogitFilter, logits: Float[Tensor, "N V"], texts: Sequence[list[int]]) -> Float[Tensor, "N V"]:
    """What a filter makes of the logits; raises where that is something else than logits of this shape."""
    changed: Any = change(logits, texts)
    if not isinstance(changed, Tensor) or changed.shape != logits.shape:
        what = f"of shape {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
        raise GenerationError(f"A filter must return a tensor of the logits' shape {tuple(logits.shape)}, not {what}.")
    return changed


def _errors(group: Sequence[Live], error: Exception) -> list[NewToken]:
    return [NewToken(sequence=live.id, token=-1, finish="error", error=error) for live in group]


def _filtered_rows(
    logits: Float[Tensor, "rows V"], rows: list[int], group: list[Live]
) -> tuple[Float[Tensor, "N V"], list[bool]]:
    """The logits of each, in its row, after its filters, and whether they have left it a token."""
    filters = group[0].filters
    if rows != list(range(len(logits))):
        logits = logits[rows]
    if not filters:
        return logits, [True] * len(group)
    logits = logits.clone()  # a filter may write in place
    texts = [live.tokens for live in group]
    for change in filters:
        logits = filtered(change, logits, texts)
    return logits, finite_rows(logits).tolist()


class Chosen(NamedTuple):
    """The next token of a text, and what a request may ask for beside it, as `NewToken` has it."""

    token: int
    logprob: float
    probs: Tensor | None
    likeliest: tuple[tuple[int, float], ...]


def _sampled(logits: Float[Tensor, "N V"], group: list[Live]) -> list[Chosen]:
    """The next token of each, drawn by its own random numbers."""
    request = group[0].request
    sampling = request.sampling
    seen = None
    if sampling.repetition_penalty != 1:
        seen = torch.stack([live.seen_of(logits.shape[-1]) for live in group])
    probs: list[Tensor | None] = [None] * len(group)
    if sampling.temperature > 0 and (request.with_probs or any(live.draft.tokens for live in group)):
        drawn_from = distribution(logits, seen, sampling)
        probs = list(drawn_from) if request.with_probs else probs
        tokens = torch.tensor([_verified(p, live) for p, live in zip(drawn_from, group, strict=True)])
    else:
        uniform = [_uniform(live) for live in group if sampling.temperature > 0]
        tokens = choose(logits, seen, sampling, uniform)
    logprobs = [NO_LOGPROB] * len(group)
    likeliest: list[tuple[tuple[int, float], ...]] = [()] * len(group)
    if request.logprobs or request.n_likeliest:
        logits = logits.float()
        total = logits.logsumexp(-1, keepdim=True)
        logprobs = (logits.gather(-1, tokens[:, None]) - total)[:, 0].tolist()
        best = (logits - total).topk(min(request.n_likeliest, logits.shape[-1]))
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        likeliest = [tuple((id, p) for id, p in zip(*row, strict=True) if p > -math.inf) for row in rows]
    return [Chosen(*each) for each in zip(tokens.tolist(), logprobs, probs, likeliest, strict=True)]


def _uniform(live: Live) -> Float[Tensor, ""]:
    return torch.rand((), generator=live.random, dtype=torch.float64)


def _verified(p: Float[Tensor, " V"], live: Live) -> int:
    """The drafted token, or one that comes in its place, or without a draft one drawn from p."""
    at, draft = live.n_accepted, live.draft
    if at == len(draft.tokens):
        return int(draw(p[None], _uniform(live)[None]))
    return verified(p, None if draft.probs is None else draft.probs[at], draft.tokens[at], live.random)
