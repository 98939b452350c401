"""What every walk over settings shares, of merge weights and of training keys: scores, choice, table and picture.

A walk has points, and one model that all of them are compared with, on the same items, as `apo-soup compare` does it.
The best point is the one with the best score among those where no guardrail falls: a guardrail falls when its metric is
worse than that model's by more than its margin and the whole interval says so. Points that the items do not separate
from the best are named. The score of a chosen point is a little too good, because it was chosen for it; held-out items
that the walk does not see tell the truth.
"""
