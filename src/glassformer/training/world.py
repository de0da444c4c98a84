"""Which of the processes that train one model this is: the part of a batch's address that differs from one to the next.

A step reads `accumulation` micro-batches on each rank. They are numbered through over all ranks, so that two ranks with
two micro-batches each read what one rank reads in four, and their gradients add up to the same.
"""

from dataclasses import dataclass

from glassformer.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The process `rank` of `size`, counted from 0."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(f"A rank is from 0 up to, not including, the number of processes {self.size}.")

    def micro_batch(self, micro_step: int) -> int:
        """The number within the step, over all ranks, of the micro-batch that this rank reads in a micro-step."""
        return micro_step * self.size + self.rank

    def batch_number(self, step: int, micro_step: int, accumulation: int) -> int:
        """The same within the run, for tasks that read their data in turn."""
        return step * accumulation * self.size + self.micro_batch(micro_step)


ALONE = World()
