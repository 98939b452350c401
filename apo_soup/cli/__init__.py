"""The console script, and the order of stages."""
