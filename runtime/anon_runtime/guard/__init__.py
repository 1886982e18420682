"""The guard: every portrait is checked before it is released."""
