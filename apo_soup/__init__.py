"""SmolLM3-style post-training: everything that the stages share, and everything that follows them."""
