"""What a fit can do, by subject: each file adds methods, and the work is done elsewhere."""
