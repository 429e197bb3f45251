"""Stage prepare: the steps from sensor values to a network's input. NumPy only."""
