"""Learning rates over time: functions of the step, which is the 1st, 2nd, … update of the run."""

import math

from glassformer.training.config import RunConfig


def learning_rate(config: RunConfig, step: int, d_model: int) -> float:
    """The rate of the step-th update, by the schedule that the settings name."""
    schedule, highest = config.schedule, config.optimizer.lr
    if schedule.kind == "noam":
        return noam(step, d_model, schedule.warmup_steps, schedule.factor)
    if schedule.kind == "constant":
        return constant(step, highest, schedule.warmup_steps)
    return warmup_cosine(step, highest, schedule.min_lr, schedule.warmup_steps, config.steps)


def constant(step: int, max_lr: int | float, warmup_steps: int) -> int | float:
    """max_lr, after a linear rise from 0."""
    return max_lr * step / warmup_steps if step < warmup_steps else max_lr


def warmup_cosine(
    step: int, max_lr: int | float, min_lr: int | float, warmup_steps: int, total_steps: int
) -> int | float:
    """A linear rise to max_lr, half a cosine down to min_lr at `total_steps`, then min_lr.

    Loshchilov & Hutter 2016, eq. 5 (arXiv:1608.03983), with the warmup of Goyal et al. 2017, §2.2 (arXiv:1706.02677).

    >>> [round(warmup_cosine(step, 1.0, 0.1, 2, 6), 2) for step in range(1, 8)]
    [0.5, 1.0, 0.87, 0.55, 0.23, 0.1, 0.1]
    """
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    if step >= total_steps:
        return min_lr
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (max_lr - min_lr)


def noam(step: int, d_model: int, warmup_steps: int, factor: int | float = 1.0) -> int | float:
    """factor · d_model^(−1/2) · min(step^(−1/2), step · warmup_steps^(−3/2)). Vaswani et al. 2017, eq. 3 (§5.3)."""
    rising = step * max(warmup_steps, 1) ** -1.5
    falling = max(step, 1) ** -0.5
    lr: int | float = factor * d_model**-0.5 * min(rising, falling)
    return lr
