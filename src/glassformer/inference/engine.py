"""The decode engine: the one loop in which texts are continued, token by token.

Rows of a batch come, branch and go while others run; each is continued as its own request asks. A step reads the tokens
that the step before chose, prefills what was admitted since, and chooses the next tokens. Of a model it asks `begin`
and `forward`, of a state that its rows can be selected, branched and joined (`models/spec.py`): any autoregressive
model has them. Next to read: `request.py`, `logits.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, groupby
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import GenerationError
from glassformer.inference.logits import Sampling, check_finite, choose
from glassformer.inference.request import Finish, LogitFilter, NewToken, Request
from glassformer.models.spec import CausalModel, ReadsTexts, State
from glassformer.nn.kv_cache import KVCache, Policy


@dataclass(slots=True, eq=False)
class Live:
    """A request that is being served. `rows` are those of the batch that it has, `chosen` their next tokens."""

    id: int
    request: Request
    wish: tuple[Sampling, tuple[LogitFilter, ...], bool]  # requests with the same are served in one
    random: torch.Generator
    new: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)

    @property
    def text(self) -> tuple[int, ...]:
        """The prompt and what has been written."""
        return (*self.request.tokens, *self.new)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of texts, read once: the state after it and the logits of its last token."""

    state: State
    logits: Float[Tensor, "1 V"]


class Engine:
    """Continues requests side by side; what becomes of one does not depend on its neighbours.

    `policy` says what each row's cache keeps. With `n_tokens`, ids from there on never come: some models have more rows
    than their tokenizer has tokens. `begin(n)` makes a state of n rows where the model's own would encode a source that
    is known already. With `n_rows`, a language model's state is static: so many rows at most run at once, in buffers
    and shapes that never change, and what is admitted beyond that waits.
    """

    def __init__(
        self,
        module: CausalModel,
        policy: Policy,
        *,
        n_tokens: int | None = None,
        begin: Callable[[int], State] | None = None,
        n_rows: int | None = None,
    ) -> None:
        self.module, self.policy, self.n_tokens, self.n_rows = module, policy, n_tokens, n_rows
        self.device = next(iter(module.parameters())).device
        self._begin = begin
        self._ids = count()
        self._waiting: list[Live] = []
        self._live: list[Live] = []  # what has rows
        self._state: State | None = None
        self._logits: Float[Tensor, "rows V"] = torch.empty(0, 0)
        self._prefixes: dict[tuple[int, ...], Prefix] = {}

    def admit(self, request: Request) -> int:
        """Take in a request, which begins with the next step; its number is `NewToken.sequence`."""
        request.check(self.module.config, self.policy)
        if request.search is not None and self.n_rows is not None:
            raise GenerationError("A search branches, and static rows do not: leave out n_rows.")
        wish = (replace(request.sampling, seed=0), request.filters, request.logprobs)
        live = Live(next(self._ids), request, wish, torch.Generator().manual_seed(request.sampling.seed))
        self._waiting.append(live)
        return live.id

    def cancel(self, sequence: int) -> None:
        """End a sequence; its row costs nothing from now on. One that has ended already is no error."""
        self._waiting = [live for live in self._waiting if live.id != sequence]
        self._live = [live for live in self._live if live.id != sequence]

    @property
    def running(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._live or self._waiting)

    def run(self) -> Iterator[NewToken]:
        """Step until everything has ended."""
        while self.running:
            yield from self.step()

    @torch.inference_mode()
    def remember(self, tokens: Sequence[int]) -> Float[Tensor, "1 T V"]:
        """Read a beginning of texts once; requests that begin with it start behind it. Returns its logits."""
        state = self._fresh([], 1)
        logits = torch.cat([*self._read(torch.tensor([list(tokens)]), state)], 1)
        self._prefixes[tuple(tokens)] = Prefix(state, _last(logits))
        return logits

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """One more token of every sequence that has not ended, in the order in which they were admitted."""
        self._decode()
        self._prefill()
        return self._choose()

    # ---- reading

    def _decode(self) -> None:
        """Read what the last step chose; rows that nobody goes on with are dropped first."""
        if self._state is None:
            return
        parents = [row for live in self._live for row in live.rows]
        if not parents:
            if self.n_rows is None:
                self._state = None
            return
        tokens = torch.tensor([token for live in self._live for token in live.chosen])
        if self.n_rows is None:
            if parents != list(range(len(self._logits))):
                self._state.select(torch.tensor(parents, device=self.device))
            self._logits = _last(self.decode(tokens[:, None].to(self.device), self._state, None))
            self._number_rows()
        else:
            self._decode_static(tokens, parents)

    def decode(self, tokens: Int[Tensor, "B 1"], state: State, valid: Bool[Tensor, "B 1"] | None) -> Tensor:
        """One decode step of all rows: the place at which a compiled or quantized one may stand in for the module."""
        return self.module(tokens, state, valid)

    def _number_rows(self) -> None:
        rows = count()
        for live in self._live:
            live.rows = [next(rows) for _ in live.rows]

    def _prefill(self) -> None:
        """Read the prompts that wait, as many at once as have the same beginning behind them."""
        if self.n_rows is None:
            waiting, self._waiting = self._waiting, []
        else:
            free = self.n_rows - sum(len(live.rows) for live in self._live)
            waiting, self._waiting = self._waiting[:free], self._waiting[free:]
        for (prefix, more), group in groupby(waiting, key=lambda live: self._remembered(live.request)):
            together = list(group)
            if more:
                state, logits = self._prefilled(together, prefix)
            else:
                state, logits = self._branched(self._prefixes[prefix], len(together))
            self._join(together, state, logits)

    def _remembered(self, request: Request) -> tuple[tuple[int, ...], bool]:
        """The longest beginning of a request that is known, and whether more follows it."""
        fitting = [tokens for tokens in self._prefixes if request.tokens[: len(tokens)] == tokens]
        longest = max(fitting, key=len, default=())
        return longest, len(longest) < len(request.tokens)

    def _branched(self, prefix: Prefix, n: int) -> tuple[State, Float[Tensor, "B V"]]:
        rows = torch.zeros(n, dtype=torch.long, device=self.device)
        return prefix.state.branch(rows), prefix.logits.expand(n, -1)

    def _prefilled(self, group: list[Live], prefix: tuple[int, ...]) -> tuple[State, Float[Tensor, "B V"]]:
        """The state after the prompts of a group, and the logits of their last tokens."""
        if prefix:
            state, _ = self._branched(self._prefixes[prefix], len(group))
        else:
            state = self._fresh([live.request.source for live in group], len(group))
        tokens, valid = left_padded([live.request.tokens[len(prefix) :] for live in group])
        *_, logits = self._read(tokens, state, valid)
        return state, _last(logits)

    def _fresh(self, sources: Sequence[Tensor | None], n: int) -> State:
        """A state of n rows in which no token has been read; an encoder-decoder reads its sources here."""
        if self._begin is not None:
            return self._begin(n)
        known = [source for source in sources if source is not None]
        if not known:
            return self.module.begin(None, self.policy)
        if known[0].is_floating_point():  # sound or images, of one size
            return self.module.begin(torch.stack(known).to(self.device), self.policy)
        source, valid = right_padded(known)
        if valid is None:
            return self.module.begin(source.to(self.device), self.policy)
        return cast(ReadsTexts, self.module).begin(source.to(self.device), self.policy, valid.to(self.device))

    def _read(
        self, tokens: Int[Tensor, "B T"], state: State, valid: Bool[Tensor, "B T"] | None = None
    ) -> Iterator[Float[Tensor, "B t V"]]:
        """Logits of prompts, as many tokens at once as the cache has room for: old tokens leave in between."""
        tokens = tokens.to(self.device)
        valid = valid if valid is None else valid.to(self.device)
        start = 0
        while start < tokens.shape[-1]:
            piece = slice(start, start + max(state.room, 1))
            yield self.module(tokens[:, piece], state, valid if valid is None else valid[:, piece])
            start = piece.stop

    def _join(self, group: list[Live], state: State, logits: Float[Tensor, "B V"]) -> None:
        """Put prefilled rows beside those that run."""
        if self.n_rows is not None:
            self._place(group, state, logits)
        else:
            if self._state is None:
                self._state, self._logits = state, logits
            else:
                self._state.join(state)
                self._logits = torch.cat([self._logits, logits])
            for live in group:
                live.rows = [0]
            self._live += group
            self._number_rows()

    # ---- static rows

    def _decode_static(self, tokens: Int[Tensor, " N"], parents: list[int]) -> None:
        """The same in all rows there are: those that are free read padding."""
        state = cast(KVCache, self._state)
        rows = torch.tensor(parents)
        everywhere = torch.zeros(len(self._logits), 1, dtype=torch.long)
        everywhere[rows, 0] = tokens
        valid = torch.zeros_like(everywhere, dtype=torch.bool)
        valid[rows] = True
        logits = self.decode(everywhere.to(self.device), state, valid.to(self.device))[:, -1].cpu()
        check_finite(logits[rows])
        self._logits = logits

    def _place(self, group: list[Live], state: State, logits: Float[Tensor, "B V"]) -> None:
        """Put prefilled rows into free ones."""
        if not isinstance(state, KVCache):
            raise GenerationError(f"A {type(self.module).__name__} has no static rows: leave out n_rows.")
        if self._state is None:
            self._state = state.branch(torch.zeros(1, dtype=torch.long)).reserve(self.n_rows or 0)
            self._logits = logits[:1].expand(self.n_rows or 0, -1).clone()
        taken = {row for live in self._live for row in live.rows}
        free = [row for row in range(len(self._logits)) if row not in taken][: len(group)]
        rows = torch.tensor(free)
        cast(KVCache, self._state).replace(rows, state)
        self._logits[rows] = logits
        for live, row in zip(group, free, strict=True):
            live.rows = [row]
        self._live += group

    # ---- choosing

    def _choose(self) -> list[NewToken]:
        """Choose the next tokens; requests that want the same of their logits are served in one."""
        rooms = [] if self._state is None else self._state.rooms
        logits = self._logits[:, : self.n_tokens]
        news: dict[int, NewToken] = {}
        sampled = [live for live in self._live if live.request.search is None]
        for (sampling, filters, logprobs), group in groupby(sampled, key=lambda live: live.wish):
            together = list(group)
            for live, token, logprob in _sampled(logits, together, sampling, filters, logprobs=logprobs):
                live.new.append(token)
                live.chosen = [token]
                finish = finish_of(live, token, rooms[live.rows[0]])
                news[live.id] = NewToken(sequence=live.id, token=token, finish=finish, logprob=logprob)
        for live in self._live:
            if live.request.search is not None:
                over = min(rooms[row] for row in live.rows) == 0
                parents, live.chosen = live.request.search.advance(logits[live.rows], context_over=over)
                live.rows = [live.rows[parent] for parent in parents]
        self._live = [live for live in self._live if live.rows and not (live.id in news and news[live.id].finish)]
        return sorted(news.values(), key=lambda new: new.sequence)


def _sampled(
    logits: Float[Tensor, "rows V"],
    group: list[Live],
    sampling: Sampling,
    filters: tuple[LogitFilter, ...],
    *,
    logprobs: bool,
) -> Iterator[tuple[Live, int, float]]:
    """The next token of each, drawn by its own random numbers, and its log-probability where that is asked for."""
    rows = [live.rows[0] for live in group]
    if rows != list(range(len(logits))):
        logits = logits[rows]
    texts = [live.text for live in group] if filters or sampling.repetition_penalty != 1 else []
    for change in filters:
        logits = change(logits, texts)
    if filters:
        check_finite(logits)
    uniform = [torch.rand((), generator=live.random, dtype=torch.float64) for live in group if sampling.temperature > 0]
    tokens = choose(logits, texts, sampling, uniform)
    chances = [float("nan")] * len(group)
    if logprobs:
        logits = logits.float()
        chances = (logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).tolist()
    yield from zip(group, tokens.tolist(), chances, strict=True)


def finish_of(live: Live, token: int, room: int) -> Finish | None:
    """Why a sequence ends with this token, if it does."""
    if token in live.request.stop_tokens:
        return "stop"
    if len(live.new) >= live.request.max_new_tokens:
        return "length"
    return "context" if room == 0 else None


def _last(logits: Float[Tensor, "B T V"]) -> Float[Tensor, "B V"]:
    last = logits[:, -1].cpu()
    check_finite(last)
    return last


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"] | None]:
    """The prompts as one array that ends with their last tokens, and where it holds tokens (None: everywhere)."""
    tokens, valid = right_padded([torch.tensor(prompt).flip(0) for prompt in prompts])
    return tokens.flip(-1), valid if valid is None else valid.flip(-1)


def right_padded(texts: Sequence[Int[Tensor, " _"]]) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"] | None]:
    """The texts as one array that begins with their first tokens, and where it holds tokens (None: everywhere)."""
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    valid = torch.arange(tokens.shape[-1]) < lengths[:, None]
    return tokens, None if valid.all() else valid
