"""How the demo's weights were trained: ``python -m anon_export.demo.training --help``."""
