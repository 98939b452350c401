"""Files and datasets of the Hub to raw rows, each with a place to point at."""
