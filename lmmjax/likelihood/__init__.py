"""The likelihood: cross-products of a design, their elimination, and exact derivatives."""
