"""Whether what is trained is what the row says."""
