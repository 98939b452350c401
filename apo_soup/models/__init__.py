"""Tokenizers, generation and log-probabilities of Hugging Face models."""
