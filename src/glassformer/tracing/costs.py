"""What a recording may cost to explain, to check and to draw: a stranger may have written little that costs much.

A stored number costs its bytes. An axis of stride 0, the repeats of a `repeat` or a kernel of a billion places cost
nothing to write down, and everything where they are laid out in memory. So nothing is laid out that has more entries
than the recording has bytes, except where FREE allows it: an honest recording, which has its operands, needs no more.
Of what is stored, formulas of up to MOST entries are computed; GPT-2's longest is a softmax over 50,257. An operation
that only moves numbers is replayed whole, by 8 bytes for each: GPT-2's embedding has 38,597,376.

The same holds of time: a check may take so many steps for each stored byte. A number of four bytes in a model 8,192
wide takes half of them.
"""

from glassformer.errors import TraceError
from glassformer.tracing.trace import TensorRecord, Trace

FREE = 1 << 14  # entries that are laid out for any recording
MOST = 1 << 22  # entries of one formula: 100 to 200 bytes each, and 50 nanoseconds
CHECK, CHECK_PER_BYTE, CHECK_STEP = 1 << 27, 2048, 1000  # entries; a formula costs as much as a thousand of them
EXPLAIN, EXPLAIN_STEP = 1 << 19, 64  # cells that are listed: 400 bytes each, and 10 microseconds
SHOWN = 1 << 20  # cells of a window of the page that repeats its storage: 40 bytes each while it is made coarser
OVERLAP = 1024  # times that a tensor may show its storage: a frame of so many samples begins at each of them


def afford(trace: Trace, entries: int, at_most: int | None = MOST) -> None:
    """Raise `NotImplementedError`, as for what no rule knows, before more is laid out than the recording may cost."""
    stored = max(FREE, trace.nbytes)
    most = stored if at_most is None else min(at_most, stored)
    if entries > most:
        raise NotImplementedError(
            f"it takes {entries:,} numbers, and at most {most:,} are laid out for a recording of {trace.nbytes:,} bytes"
        )


class Work:
    """A budget for what is computed: what would never end, ends when it is spent."""

    def __init__(self, most: int, step: int, advice: str) -> None:
        self.most, self.left, self.step, self.advice = most, most, step, advice

    def spend(self, entries: int) -> None:
        """Count one more formula."""
        self.left -= self.step + entries
        if self.left < 0:
            raise TraceError(f"This would take more than {self.most:,} steps: {self.advice}.")


def of_a_check(trace: Trace) -> Work:
    """What a check of this recording may take."""
    return Work(max(CHECK, CHECK_PER_BYTE * trace.nbytes), CHECK_STEP, "check fewer of its numbers, or fewer modules")


def of_an_explanation() -> Work:
    """What one explanation with all its steps may take."""
    return Work(EXPLAIN, EXPLAIN_STEP, "explain it less deeply, or by fewer terms")


def repeats(record: TensorRecord, nbytes: int) -> bool:
    """Whether a tensor shows more cells than its storage, of so many bytes, has numbers."""
    return record.n_cells * record.dtype.itemsize > nbytes
