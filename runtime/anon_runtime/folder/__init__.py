"""Runs over many photos: finding the photos, the pipeline, the journal, and runs on one machine or on a cluster."""
