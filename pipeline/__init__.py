"""Recipes, run folders, manifests and the report: what every stage shares."""
