"""Stable Diffusion models and face networks -> bundles of engines. Needs torch; the bundles do not."""
