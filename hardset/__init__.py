"""What every package of hardset needs once: files, checksums, locks, checks, command lines."""
