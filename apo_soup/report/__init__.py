"""The report of a run: page, charts, and the way to the Hub."""
