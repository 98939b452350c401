"""A page that lives: what stages of a recipe exist, their rows, and two checkpoints that answer side by side."""
