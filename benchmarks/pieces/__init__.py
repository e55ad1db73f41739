"""The pieces of accelerator.py: each measures one thing and writes what it finds."""
