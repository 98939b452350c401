"""Conversations to text with trained spans, by a chat template."""
