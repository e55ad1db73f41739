"""What the command line of pretrain_jax does: train, select and report."""
