"""Mid-training and supervised fine-tuning: train.py holds the trainer and the method, packed_batch.py its batch."""
