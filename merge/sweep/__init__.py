"""Walk the weight between two models, and say which weight the scores support.

    python -m merge.sweep --config recipes/tiny/merge.yaml

Every point is an average in memory (`apo-soup eval --mix`); no checkpoint is written. A point is compared with the
first model, the soup, and chosen as `apo_soup/sweep` tells; of equal scores the one nearest to the soup is taken.
"""
