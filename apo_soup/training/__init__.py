"""What mid-training, fine-tuning and preference training share."""
