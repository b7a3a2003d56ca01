"""Many fits at once: the batch axis over replicates."""
