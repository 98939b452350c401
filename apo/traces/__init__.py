"""The making of reasoning traces, rows for mid and sft, with a strong model alone."""
