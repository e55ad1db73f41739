"""The trainer: configuration, optimiser step, loop, checkpoints, log, probes, pictures."""
