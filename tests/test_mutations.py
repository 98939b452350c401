"""Recipes that are broken at random: a check ends, and every line of it is a sentence."""

from mutations import faults


def test_no_mutation_of_a_shipped_recipe_ends_in_a_traceback_or_without_end():
    assert [(fault.name, fault.what) for fault in faults(2000, seed=0)] == []
