"""Rows to conversations, conversations to tokens and loss masks, documents to packed sequences."""
