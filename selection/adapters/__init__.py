"""A selection in the terms of other libraries."""
