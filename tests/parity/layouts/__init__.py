"""How the authors of each model publish their weights, and how a golden case describes a reduced network."""
