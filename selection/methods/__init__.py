"""Selection methods, and the conditions that any of them can be put under."""
