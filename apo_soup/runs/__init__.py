"""Stage folders: manifests, what stages read, staleness, soup members, cards."""
