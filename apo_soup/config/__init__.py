"""Stage files: typed keys, YAML with lines, overrides from the command line, renamed keys."""
