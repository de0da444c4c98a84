"""Training: the optimizer, the schedules, and the loop that turns a configuration into a checkpoint directory."""
