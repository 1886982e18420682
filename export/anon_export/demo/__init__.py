"""The embedded model: small enough to build anywhere, of the same classes as the real one."""
