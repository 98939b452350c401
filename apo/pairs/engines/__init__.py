"""What answers prompts: transformers or vLLM in this process, or an OpenAI-compatible endpoint."""
