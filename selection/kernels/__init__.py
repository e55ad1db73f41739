"""Compiled loops; import them where Numba is needed, not before."""
