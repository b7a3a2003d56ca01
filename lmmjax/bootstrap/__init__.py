"""Bootstrap: new responses from a fit, all of them fitted again, and what their spread says."""
