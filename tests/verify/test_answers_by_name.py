"""Verifiers by their names in a recipe, and verdicts of theirs."""

import pytest

from apo_soup.errors import UserError
from apo_soup.verify.answers import verifier


@pytest.mark.parametrize(
    ("name", "text", "reference", "right"),
    [
        ("number", "so it is 1,234.0", "1234", True),
        ("number", "<think>7</think>8", "7", False),
        ("exact", " Paris ", "Paris", True),
        ("math", "the result is $\\frac{1}{2}$", "0.5", True),
        ("math", "<think>$3$</think> it is \\boxed{x^2 + 2x + 1}", "(x+1)^2", True),
        ("math", "it is $4$", "5", False),
        ("operator:contains", "abc", "b", True),
    ],
)
def test_verifiers(name, text, reference, right):
    assert bool(verifier(name, "pairs.yaml:1")(text, reference)) is right


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nuber", "expected one of number, exact, math, or package.module:function, got nuber"),
        ("no.such:thing", "expected a function that can be imported, got no.such:thing: ModuleNotFoundError"),
        ("operator:nothing", "expected a function that can be imported, got operator:nothing"),
    ],
)
def test_a_verifier_that_is_not_there_is_told(name, told):
    with pytest.raises(UserError, match=f"pairs.yaml:7: verifier: {told}"):
        verifier(name, "pairs.yaml:7: verifier")
