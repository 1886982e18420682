"""Engines behind one call: each module loads those of one kind of target."""
