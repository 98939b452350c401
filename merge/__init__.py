"""Soup, merge, and the weight between them.

SmolLM3's last step averages the APO members with equal weights into a soup, and mixes 0.9 of it with 0.1 of the
mid-training checkpoint. The two numbers stand in `recipes/NAME/merge.yaml` under `merge.models`; what a linear average
does with them is `weighted_sum` in `merge/linear.py`; `merge/run.py` makes a folder of it, from top to bottom.
"""
