"""Mid-training and supervised fine-tuning: train.py holds the batch, the trainer and the method, top to bottom."""
