"""Models on Flax NNX, one folder each: modeling, params (weights of other libraries)."""
