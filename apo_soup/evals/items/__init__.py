"""Evaluation items made from a seed: problems, needles and tool requests that no training set holds."""
