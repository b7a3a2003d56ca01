"""Data that do not exist yet: designs, true parameters, simulated responses and statistics."""
