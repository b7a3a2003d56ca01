"""Power studies: how often a design would find an effect."""
