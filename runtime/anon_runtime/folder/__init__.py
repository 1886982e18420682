"""Many photos: finding them, a pipeline of stages, the journal, and runs on one machine or many."""
