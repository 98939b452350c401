"""Rows to conversations, conversations to tokens with trained spans, documents to packed sequences."""
