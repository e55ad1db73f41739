"""Solves regularised students on noisy labels and structured inputs, at infinite dimension."""
