"""A model that is being looked at: runs of it on inputs, each run a row of recorded steps, one token longer each.

    session = Session(model, name="nano-sort")
    run = session.run(text="CBABBC")                     or session.start(kind_of(model).read(model, "picture.png"))
    session.next(run.id, Sampling(temperature=0.0))      one more token, chosen as `generate` chooses
    session.patch(run.id, 0, tensor, index, 2.0)         the same pass with one number changed, as a new run

Recording takes its time and holds a lock, so that passes come one after the other; what is recorded never changes, and
is read without waiting.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from glassformer.checkpoints.about import About
from glassformer.errors import GenerationError, TraceError
from glassformer.inference.logits import Sampling, choose, without
from glassformer.kinds import kind_of
from glassformer.kinds.kind import Inputs, ModelLike, text_tokenizer
from glassformer.models.spec import IN_WORDS
from glassformer.tokenizers import Tokenizer
from glassformer.tracing import costs, intervene
from glassformer.tracing.storage_table import GIB
from glassformer.tracing.trace import Cell, Trace
from glassformer.viewer import pack, tiles
from glassformer.viewer.events import Events
from glassformer.viewer.folding import steps_of
from glassformer.viewer.gradients import add_gradients
from glassformer.viewer.responses import answer
from glassformer.viewer.scene import Block, Scene, Token
from glassformer.viewer.shapes import configuration, shapes_scene
from glassformer.viewer.tokens import shown_classes, shown_tokens, text_of, tokenized

LAZY = 64 << 20  # bytes of a step from which on the page fetches only what it shows
MAX_BYTES = 4 * GIB  # of all recorded numbers of a session, without the weights
MAX_RUNS = 256
MAX_TEXT = 4096  # characters whose tokens are shown while somebody types
MAX_NUMBERS = 1 << 20  # of a window: an attention matrix of a thousand positions
MAX_TILES = 32  # at once
MAX_LEVEL = 24  # of tiles: a texel of 2²⁴ × 2²⁴ cells is any matrix


@dataclass(frozen=True, kw_only=True)
class RecordedStep:
    """A recorded pass as the page gets it."""

    inputs: Inputs
    tokens: list[Token]
    trace: Trace
    scene: Scene
    module: nn.Module | None  # what ran; None in a trace from a file
    names: pack.Names = field(default_factory=dict)  # of weights that other steps have too

    @cached_property
    def _packed(self) -> tuple[dict[str, Any], dict[str, torch.UntypedStorage]]:
        return pack.pack_trace(self.trace, self.names)

    @property
    def records(self) -> dict[str, Any]:
        """`TraceRecords` of types.ts."""
        return self._packed[0]

    @property
    def blobs(self) -> dict[str, torch.UntypedStorage]:
        """The bytes that they name."""
        return self._packed[1]


@dataclass(kw_only=True)
class Run:
    """An input and what followed from it."""

    id: int
    label: dict[str, str]
    n_prompt: int  # tokens that were given; the model wrote those behind them
    steps: list[RecordedStep] = field(default_factory=list)
    compared_to: int | None = None

    def to_json(self) -> dict[str, Any]:
        """`RunInfo` of types.ts: the run with all its steps."""
        steps = [self.step_to_json(number) for number in range(len(self.steps))]
        return {
            "id": self.id,
            "label": self.label,
            "n_prompt": self.n_prompt,
            "steps": steps,
            "compared_to": self.compared_to,
        }

    def step_to_json(self, number: int) -> dict[str, Any]:
        """`StepInfo` of types.ts: a step's place and its tokens."""
        return {"run": self.id, "step": number, "tokens": [asdict(token) for token in self.steps[number].tokens]}


class Training(Protocol):
    """A training that is under way while the page is open; `watch.Watch` is one."""

    events: Events

    def progress(self) -> dict[str, Any]:
        """How far it is: `Training` of types.ts."""


class Session:
    """A model with its runs. Without a model, the session of one trace: to look at, and to patch if it can run."""

    def __init__(self, model: ModelLike | None, *, name: str) -> None:
        self.model, self.name = model, name
        self.tokenizer = None if model is None else text_tokenizer(model)
        self.training: Training | None = None
        self.runs: list[Run] = []  # the first, which others are compared with, and the newest ones
        self._n_runs = 0
        self._recording = threading.Lock()
        self._names: pack.Names = {}
        self._pyramids = tiles.Pyramids()

    @classmethod
    def of_trace(cls, trace: Trace, *, name: str = "") -> "Session":
        """A session that shows one recorded pass."""
        session = cls(None, name=name or (trace.modules[0].cls if trace.modules else "trace"))
        step = session._step(trace, _inputs_read(trace))
        label = " ".join(token.text for token in step.tokens)
        session._add(session._new_run(label, n_prompt=len(step.tokens)), step)
        return session

    @classmethod
    def of_shapes(cls, name: str) -> "Session":
        """A session that shows how large a model is: a preset, or gpt3, without a number in it."""
        session = cls(None, name=name)
        scene = shapes_scene(name, configuration(name))
        session._add(
            session._new_run(name, n_prompt=0),
            RecordedStep(inputs=Inputs(), tokens=[], trace=Trace(), scene=scene, module=None),
        )
        return session

    # ---- what the page asks for

    def to_json(self, *, live: bool) -> dict[str, Any]:
        """`Session` of types.ts: the model, its runs, and what a visitor can do: unless `live`, only look."""
        first = self.runs[0].steps[0]
        model = self.model
        can = {
            "text": None if self._reads_no_text else live and model is not None and self.tokenizer is not None,
            "generate": live and model is not None and kind_of(model).writes,
            "patch": live and first.trace.replay is not None,
            "train": live and self.training is not None,
        }
        return {
            "model": dict(first.scene.model),
            "live": live,
            "can": can,
            "runs": [run.to_json() for run in self.runs],
        }

    def step(self, run: int, number: int) -> RecordedStep:
        """A recorded step."""
        steps = self._run(run).steps
        if not 0 <= number < len(steps):
            raise TraceError(f"There is no step {number} of run {run}.")
        return steps[number]

    def steps(self) -> Iterator[tuple[int, int, RecordedStep]]:
        """All steps with their places."""
        for run in self.runs:
            for number, step in enumerate(run.steps):
                yield run.id, number, step

    def blobs(self, names: Sequence[str]) -> bytes:
        """The bytes of these names, one after the other."""
        storages = {name: storage for _, _, step in self.steps() for name, storage in step.blobs.items()}
        missing = [name for name in names if name not in storages]
        if missing or len(set(names)) < len(names):
            raise TraceError("There are no numbers of this name." if missing else "Each name once.")
        blobs = [pack.blob_bytes(storages[name]) for name in names]
        if sum(data.nbytes for data in blobs) > LAZY:
            raise GenerationError(f"At most {LAZY >> 20} MiB are sent at once.")
        return b"".join(blobs)

    def tiles(self, run: int, number: int, places: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Several tiles: of each its block, level, x and y."""
        if not places or len(places) % 4 or len(places) > 4 * MAX_TILES:
            raise TraceError(f"Ask for 1 to {MAX_TILES} tiles, each by its block, level, x and y.")
        return [self.tile(run, number, *places[i : i + 4]) for i in range(0, len(places), 4)]

    def tile(self, run: int, number: int, block: int, level: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        """Texels of a block: their values, and the roots of their mean squares."""
        step = self.step(run, number)
        scene_block = self._block(step, block)
        if level > MAX_LEVEL or any(at << level >= n for at, n in zip((x, y), scene_block.size, strict=True)):
            raise TraceError(f"{scene_block.name} has no texel {x}, {y} on level {level}.")
        return self._pyramids.tile(step.trace, scene_block, level, x, y)

    def numbers(self, run: int, number: int, block: int, x: int, y: int, nx: int, ny: int) -> np.ndarray:
        """A window of a block's numbers."""
        if nx * ny > MAX_NUMBERS or nx < 1 or ny < 1:
            raise GenerationError(f"A window has from 1 to {MAX_NUMBERS:,} numbers.")
        step = self.step(run, number)
        cells = tiles.block_window(step.trace, self._block(step, block))[y : y + ny, x : x + nx]
        return (np.abs(cells) if np.iscomplexobj(cells) else cells).astype("<f8")

    def explain(
        self, run: int, number: int, tensor: int, index: Sequence[int], *, folded: bool = False
    ) -> dict[str, Any]:
        """Where one number comes from: by its last operation, or folded, over what has a name."""
        step = self.step(run, number)
        return answer(step.trace, tensor, index, steps_of(step.scene) if folded else frozenset())

    def tokenize(self, text: str) -> list[dict[str, Any]]:
        """A text on its way to tokens."""
        model = self._needs_model()
        if len(text) > MAX_TEXT:
            raise GenerationError(f"Tokens are shown of a text of up to {MAX_TEXT:,} characters.")
        if self.tokenizer is None:
            raise GenerationError("This model has no tokenizer: give it token ids.")
        return tokenized(self.tokenizer, text, kind_of(model).tokens(model, text))

    def pieces(self, run: int) -> list[dict[str, Any]]:
        """The text of a run on its way to tokens; empty where its tokens are not those of a text, or it is long."""
        inputs = self._run(run).steps[0].inputs
        ids = inputs.source or inputs.tokens
        tokenizer = self.tokenizer
        if tokenizer is None or self._reads_no_text or not all(id in tokenizer.vocab for id in ids):
            return []
        text = text_of(tokenizer, ids)
        pieces = tokenized(tokenizer, text, ids) if len(text) <= MAX_TEXT else []
        return pieces if [id for piece in pieces for id in piece["ids"]] == list(ids) else []

    def vocabulary(self, ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """What the logits of these ids, or of all, are of: tokens or classes; none where there is no tokenizer."""
        model = self.model
        if model is not None and (model.kind == "image-classifier" or getattr(model.config, "head", "") == "classes"):
            classes = shown_classes(model.config)
            return [asdict(token) for token in classes if ids is None or token.id in ids]
        tokenizer = self._target_tokenizer
        if tokenizer is None:
            return []
        return [asdict(token) for token in shown_tokens(tokenizer, range(tokenizer.vocab_size) if ids is None else ids)]

    # ---- what makes something new

    def run(self, *, text: str | None = None, tokens: Sequence[int] | None = None) -> Run:
        """A new run, on a text or on token ids."""
        model = self._needs_model()
        if (text is None) == (tokens is None):
            raise GenerationError("Give the model a text or tokens, and not both.")
        kind = kind_of(model)
        return self.start(kind.read(model, (tokens or ()) if text is None else kind.tokens(model, text)))

    def start(self, inputs: Inputs) -> Run:
        """A new run on whatever its kind of model reads, begun where the model writes."""
        model = self._needs_model()
        with self._recording:
            self._make_room()
            step = self._record(model, kind_of(model).begun(model, inputs))
            return self._add(self._new_run(inputs.label or self._words(step), n_prompt=len(inputs.tokens)), step)

    def next(self, run: int, sampling: Sampling) -> dict[str, Any]:
        """One more token of a run, drawn from the recorded logits as `generate` draws it, and the step that reads it.

        The n-th new token takes the n-th number that the seed gives, so that the run becomes what `generate` with this
        seed would write after the tokens that `start` began with.
        """
        model = self._needs_model()
        with self._recording:
            steps = self._run(run).steps
            last = steps[-1]
            if last.trace.replay is not None and last.trace.replay.edits:
                raise GenerationError("A changed number belongs to one pass, and the next does not have it.")
            if not kind_of(model).writes:
                raise GenerationError(f"The model is {IN_WORDS[model.kind]}, which writes no text.")
            n_tokens = None if model.tokenizer is None else model.tokenizer.vocab_size
            logits = without(last.trace["logits"].value[:, -1, :n_tokens], model.suppressed)
            random = torch.Generator().manual_seed(sampling.seed)
            uniform = torch.rand(len(steps), generator=random, dtype=torch.float64)[-1:]
            token = int(choose(logits, None, sampling, list(uniform)))
            self._add(self._run(run), self._record(model, last.inputs.and_then(token), last))
            return self._run(run).step_to_json(len(steps) - 1)

    def patch(self, run: int, number: int, tensor: int, index: Sequence[int], value: float) -> Run:
        """The same pass with another number in one place, as a new run that is compared with this one."""
        before = self.step(run, number)
        if not 0 <= tensor < len(before.trace.tensors):
            raise TraceError(f"The trace has no tensor {tensor}.")
        record = before.trace.tensors[tensor]
        place = tuple(index)
        if len(place) != len(record.shape) or not all(0 <= i < n for i, n in zip(place, record.shape, strict=True)):
            raise TraceError(f"{record.name} has the shape {record.shape}, so there is no cell {list(place)} in it.")
        cell = Cell(before.trace, tensor, place)
        if not record.dtype.is_floating_point and not record.dtype.is_complex and value.is_integer():
            value = int(value)
        n_prompt = self._run(run).n_prompt
        with self._recording:
            try:
                patched = intervene.patch(before.trace, {cell: value})
            except TraceError as error:  # the place is there: it is the number that does not fit
                raise GenerationError(str(error)) from None
            self._make_room()
            step = self._step(patched.after, before.inputs)
            return self._add(self._new_run(f"{cell} = {value:g}", n_prompt=n_prompt, compared_to=run), step)

    def add(self, trace: Trace, label: str, gradients: Mapping[str, Tensor]) -> RecordedStep:
        """One more recorded pass, with the gradients of its weights, as the next step of the first run."""
        with self._recording:
            step = self._step(trace, _inputs_read(trace))
            add_gradients(trace, step.scene, gradients)
            step.scene.lazy = sum(storage.nbytes for storage in trace.storages) > LAZY
            self._add(self.runs[0] if self.runs else self._new_run(label, n_prompt=len(step.tokens)), step)
            return step

    # ---- inside

    def _needs_model(self) -> ModelLike:
        if self.model is None:
            raise GenerationError("This is a recording without its model: open the model to run it.")
        return self.model

    def _run(self, run: int) -> Run:
        kept_run = next((kept for kept in self.runs if kept.id == run), None)
        if kept_run is None:
            gone = 0 <= run < self._n_runs
            raise TraceError(f"There is no run {run}{' any more: newer ones took its place' if gone else ''}.")
        return kept_run

    @property
    def _about(self) -> About | None:
        """What the model does; weights that nobody has trained do nothing yet."""
        model = self.model
        if model is None or "random" in model.note:
            return None
        return model.about or kind_of(model).about

    @property
    def _reads_no_text(self) -> bool:
        return self.model is not None and not kind_of(self.model).reads_text

    @property
    def _target_tokenizer(self) -> Tokenizer | None:
        """Of the text that grows: where the source has another, not that one."""
        return self.tokenizer if self.model is None else self.model.tokenizer

    def _words(self, step: RecordedStep) -> str:
        """What a run is called: the text that was given."""
        tokens = step.scene.source if self.model and self.model.kind == "encoder-decoder" else step.tokens
        return ("" if self.tokenizer else " ").join(token.text for token in tokens)

    def _record(self, model: ModelLike, inputs: Inputs, last: RecordedStep | None = None) -> RecordedStep:
        """A pass of the module that ran the last one: it may have a changed weight. What both computed is kept once."""
        call, arguments = kind_of(model).call(model, inputs)
        room = MAX_BYTES - _nbytes(self._traces()) + (0 if last is None else _nbytes([last.trace]))
        module = model.module if last is None else last.module or model.module
        trace = pack.record(module, *arguments, call=call, predicts=pack.predicts(model.config), max_bytes=room)
        if last is not None:
            pack.share_equal(trace, last.trace)
        return self._step(trace, inputs)

    def _traces(self) -> Iterator[Trace]:
        return (step.trace for _, _, step in self.steps())

    def _step(self, trace: Trace, inputs: Inputs) -> RecordedStep:
        if _nbytes([*self._traces(), trace]) > MAX_BYTES:
            raise GenerationError(f"This run has grown to {MAX_BYTES / GIB:g} GiB: begin another one.")
        model = self.model
        tokens = shown_tokens(self._target_tokenizer, inputs.tokens)
        module = None if trace.replay is None else trace.replay.module
        scene = pack.pack_scene(
            trace,
            module=module,
            config=None if model is None else model.config,
            name=self.name,
            tokens=tokens,
            source=shown_tokens(self.tokenizer, inputs.source),
            about=self._about,
            random=model is not None and "random" in model.note,
            lazy=sum(storage.nbytes for storage in trace.storages) > LAZY,
        )
        return RecordedStep(inputs=inputs, tokens=tokens, trace=trace, scene=scene, module=module, names=self._names)

    def _make_room(self) -> None:
        """Let the oldest runs go where there are many, or much: not the first one, which the page opens with."""
        while len(self.runs) > 1 and (len(self.runs) >= MAX_RUNS or _nbytes(self._traces()) > MAX_BYTES // 2):
            gone = self.runs[1].id
            self.runs = [self.runs[0], *self.runs[2:]]
            for run in self.runs:
                run.compared_to = None if run.compared_to == gone else run.compared_to

    def _new_run(self, label: str, *, n_prompt: int, compared_to: int | None = None) -> Run:
        kept = compared_to if any(run.id == compared_to for run in self.runs) else None
        return Run(id=self._n_runs, label={"en": label, "zh": label}, n_prompt=n_prompt, compared_to=kept)

    def _add(self, run: Run, step: RecordedStep) -> Run:
        """The step first, so that a run that is seen has what is asked of it."""
        run.steps.append(step)
        if run.id == self._n_runs:
            self._n_runs += 1
            self.runs.append(run)
        return run

    @staticmethod
    def _block(step: RecordedStep, block: int) -> Block:
        if not 0 <= block < len(step.scene.blocks):
            raise TraceError(f"There is no block {block}.")
        scene_block = step.scene.blocks[block]
        if scene_block.tensor < 0:
            raise TraceError(f"{scene_block.name} has no numbers: only its shape is known.")
        return scene_block


def _nbytes(traces: Iterable[Trace]) -> int:
    """Of what was computed in these passes, each storage once."""
    computed = (storage for trace in traces for storage in trace.storages if storage.written_by is not None)
    return sum({storage.bytes.data_ptr(): storage.nbytes for storage in computed}.values())


def _inputs_read(trace: Trace) -> Inputs:
    """The token ids that a model was given: inputs of whole numbers, of one row."""
    ids_by_name: dict[str, tuple[int, ...]] = {}
    for record in trace.tensors:
        whole = record.kind == "input" and record.dtype in (torch.int64, torch.int32) and record.shape[:-1] == (1,)
        if whole and not costs.repeats(record, trace.storages[record.storage].nbytes):
            ids_by_name[record.name] = tuple(trace.value(record.id)[0].tolist())
    source = ids_by_name.pop("source", None) or ids_by_name.pop("candidates", ())
    return Inputs(tokens=next(iter(ids_by_name.values()), ()), source=source)
