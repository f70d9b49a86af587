"""A network and images to a checkpoint: the step, the loop, resuming."""
