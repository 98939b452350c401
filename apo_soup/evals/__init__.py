"""What a checkpoint can do: problems in both modes, recall, preference, held-out loss."""
