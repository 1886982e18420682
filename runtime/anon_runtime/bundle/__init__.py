"""What is on disk: a folder of engines, its manifest, and whether its files are the ones that were built."""
