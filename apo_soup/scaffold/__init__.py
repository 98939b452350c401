"""Recipes written for people: from a model and rows, or from another project's configuration."""
