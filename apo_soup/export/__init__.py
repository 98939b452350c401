"""A model on its way to llama.cpp and Ollama: `apo-soup export MODEL --gguf`."""
