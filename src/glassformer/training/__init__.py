"""From a configuration to a trained checkpoint: tasks, optimizer, schedules, the loop, runs that resume to the bit."""
