"""The bundle on disk: a folder of engines, its manifest, and the check of its files."""
