"""The training of the demo's weights: ``python -m anon_export.demo.training --help``."""
