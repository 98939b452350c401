"""Soup, merge, and the folders they make."""
