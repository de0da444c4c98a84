"""Every error that glassformer raises on purpose.

    GlassformerError
    ├── ConfigError            a setting is unknown, of the wrong type, out of range, or contradicts another
    ├── DataError              a corpus or a token file is missing, empty, broken, or does not fit the model
    ├── TokenizerError         a tokenizer file is broken, or an id or a special token is unknown to it
    │   └── UnsupportedPipeline  a tokenizer.json is whole, and asks for what a class of ours does not do
    ├── CheckpointError        a checkpoint cannot be read or written
    │   ├── CheckpointCorrupt  its bytes are not what was written, or not what its format allows
    │   ├── CheckpointMismatch a tensor is missing, unread, or of another shape than the model's
    │   └── ExportError        the target format cannot express this model
    ├── TrainingError          a run cannot begin, go on or be resumed
    ├── GenerationError        a prompt or a sampling setting that cannot be served
    ├── TraceError             a forward pass cannot be recorded, or a cell or a tensor is not in the recording
    ├── WorkerDied             processes that work for us are killed, again and again
    └── MissingExtra           an optional library is not installed

A message is one sentence or two: what was expected, what came, and what to do next.
The command line prints it and exits with code 2; anything else that escapes is a bug of ours, and ends with code 70.
"""

from typing import Any


class GlassformerError(Exception):
    """Base of every error here; `str(error)` is for the caller of a function, `at_command_line` for a command's user.

    Where their next steps differ, `python` holds the caller's and `command` the user's; either ends `message`.
    `setting` is the argument at fault, and begins it: a command's user reads it as a flag, with hyphens.
    """

    def __init__(self, message: str = "", *, setting: str = "", python: str = "", command: str = "") -> None:
        super().__init__(" ".join(filter(None, (setting, message, python))))
        self.message, self.setting, self.python, self.command = message, setting, python, command

    def __reduce__(self) -> tuple[Any, ...]:
        """The same error in another process, whatever its class is made of."""
        return _restored, (type(self), self.args, self.__dict__)

    def at_command_line(self) -> str:
        """The same for the user of a command: it names flags, and no Python."""
        flag = f"--{self.setting.replace('_', '-')}" if self.setting else ""
        return " ".join(filter(None, (flag, self.message, self.command)))

    def anywhere(self) -> str:
        """The same without `python` and `command`, for readers who may be either, or look at a page."""
        return " ".join(filter(None, (self.setting, self.message)))

    def about(self, what: object) -> "GlassformerError":
        """The same error, which begins with what it is about."""
        return type(self)(f"{what}: {self.anywhere()}", python=self.python, command=self.command)


def _restored(cls: type[GlassformerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> GlassformerError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigError(GlassformerError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class DataError(GlassformerError, ValueError):
    """A corpus or a token file is missing, empty, broken, or does not fit the model."""


class TokenizerError(GlassformerError, ValueError):
    """A tokenizer file is broken, or an id or a special token is unknown to it."""


class UnsupportedPipeline(TokenizerError):
    """A tokenizer.json is whole, and asks for what a class of ours does not do; the `tokenizers` library may."""


class CheckpointError(GlassformerError):
    """A checkpoint, or another file of a model, a run or a recording, cannot be read or written."""


class CheckpointCorrupt(CheckpointError, ValueError):
    """A checkpoint's bytes are not what was written, or not what its format allows."""


class CheckpointMismatch(CheckpointError, ValueError):
    """A tensor of a checkpoint is missing, unread, or of another shape than the model's."""


class ExportError(CheckpointError, ValueError):
    """The target format cannot express this model."""


class TrainingError(GlassformerError):
    """A run cannot begin, go on or be resumed."""


class GenerationError(GlassformerError, ValueError):
    """A prompt or a sampling setting that cannot be served."""


class TraceError(GlassformerError, LookupError):
    """A forward pass cannot be recorded, or a cell or a tensor is not in the recording."""


class WorkerDied(GlassformerError):
    """Processes that work for us are killed, again and again."""


class MissingExtra(GlassformerError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: install it with  pip install 'glassformer[{extra}]'")
