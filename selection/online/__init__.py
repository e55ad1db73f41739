"""Methods that select again and again while a model trains."""
