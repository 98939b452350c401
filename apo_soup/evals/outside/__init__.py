"""Tasks that another project's program scores: it is started in its own environment, and read from what it writes."""
