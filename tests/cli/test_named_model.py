"""What MODEL names: a recipe with a suite, or a model."""

import pytest
from helpers import ROOT

from apo_soup.cli.named_model import recipe_of
from apo_soup.errors import UserError


def test_a_recipe_without_a_suite_is_no_model(tmp_path):
    (tmp_path / "sft.yaml").touch()
    with pytest.raises(
        UserError, match=r"expected a recipe with eval\.yaml, which names its models, got one without; "
    ):
        recipe_of(str(tmp_path))
    (tmp_path / "eval.yaml").touch()
    assert recipe_of(str(tmp_path)) == tmp_path
    assert recipe_of("tiny") == ROOT / "recipes" / "tiny"
    assert recipe_of(str(ROOT / "recipes" / "tiny" / "base")) is None
    assert recipe_of("owner/name") is None
