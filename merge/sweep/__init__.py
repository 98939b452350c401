"""Walk the weight between two models, and say which weight the scores support.

    python -m merge.sweep --config recipes/tiny/merge.yaml

Every point is an average in memory (`apo-soup eval --mix`); no checkpoint is written. A point is compared with the
first model (the soup) on the same items, as `apo-soup compare` does it. The best point is the one with the best
score among those where no guardrail falls: a guardrail falls when its metric is worse than the soup's by more than its
margin and the whole interval says so. Points that the items do not separate from the best are named. The score of a
chosen point is a little too good, because it was chosen for it; held-out items that the sweep does not see tell the
truth.
"""
