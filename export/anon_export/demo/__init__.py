"""The demo model: the same classes of networks as the real one, small enough to be part of this package."""
