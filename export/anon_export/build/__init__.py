"""A build: the options, the plan that follows from them, and the steps that carry it out."""
