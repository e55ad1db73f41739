"""The bridge to the theory: where data lie in the toy model, and what it advises there."""
