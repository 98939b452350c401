"""Mid-training and supervised fine-tuning."""
