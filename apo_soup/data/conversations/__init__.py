"""Raw rows of every shape to conversations and pairs."""
