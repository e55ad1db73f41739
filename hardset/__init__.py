"""Shared parts of all packages: files, checksums, locks, checks and command lines."""
