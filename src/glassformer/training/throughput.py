"""Units a second of a training run, and the seconds that the rest of it takes."""

import time

# Times as long as forward alone: two of a step's three products with a matrix belong to the gradient.
FORWARD_AND_BACKWARD = 3


class Throughput:
    """Seconds and units of a step, as a running mean, since the first steps are slow; and seconds of an evaluation."""

    def __init__(self, evaluation: float) -> None:
        self.seconds, self.count = 0.0, 0.0  # of a step
        self._since = time.perf_counter()
        self._evaluation_steps = evaluation  # how many steps take as long as one: a guess, until the first is over
        self._evaluation_seconds: float | None = None

    @property
    def evaluation(self) -> float:
        """Seconds that an evaluation takes."""
        guess = self.seconds * self._evaluation_steps
        return guess if self._evaluation_seconds is None else self._evaluation_seconds

    def step(self, count: int) -> float:
        """Note that a step of so many units is done; return how many are done in a second."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        share = 0.1 if self.seconds else 1.0
        self.seconds += (seconds - self.seconds) * share
        self.count += (count - self.count) * share
        return self.count / self.seconds

    def left(self, steps: int, evaluations: int) -> float:
        """Seconds that so many steps and evaluations take."""
        return self.seconds * steps + self.evaluation * evaluations

    def pause(self) -> None:
        """Leave out what came since the last step, such as a checkpoint."""
        self._since = time.perf_counter()

    def evaluated(self, seconds: float) -> None:
        """Note how long an evaluation took."""
        self._evaluation_seconds = seconds
        self.pause()
