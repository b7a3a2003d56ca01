"""Standard errors, degrees of freedom and tests, from derivatives of the cross-products."""
