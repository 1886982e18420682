"""Stable Diffusion models and face networks -> bundles of engines. A build needs torch; the bundles do not."""
