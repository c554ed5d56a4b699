"""Settings: what an operator sets in the environment, one class for each plane."""
