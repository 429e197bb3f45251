"""Stage request: what a caller says. Frozen values, checked when they are built."""
