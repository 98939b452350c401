"""Anchored preference optimisation, and the making of preference pairs."""
