"""Backends: each module loads the engines of one kind of target, and all engines are called in the same way."""
