"""The benchmark: frontends by name, the same data and code for all of them, resumable results."""
