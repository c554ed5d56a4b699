"""Load and cost measurements, run by hand: ``python -m benchmarks``."""
