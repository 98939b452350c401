"""Tables and schemas come from the models and are those that lie in the repository."""

import json
import re

import jsonschema
import pytest
import yaml
from helpers import ROOT

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import KINDS, file_model
from apo_soup.config.reference import main, reference_rows, schema


def test_tables_and_schemas_are_those_of_the_models(capsys):
    assert main(["tables", str(ROOT / "docs" / "recipes.md"), "--check"]) == 0, capsys.readouterr().out
    assert main(["schema", str(ROOT / "recipes" / "schema"), "--check"]) == 0, capsys.readouterr().out


def test_a_page_that_is_behind_fails_the_check(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- keys: data -->\nold\n<!-- end of keys -->\nbehind\n")
    assert main(["tables", str(page), "--check"]) == 1
    assert "differs from the models" in capsys.readouterr().out
    assert main(["tables", str(page)]) == 0
    assert "| `counts` | a mapping of whole numbers of 1 or more by name | required |" in page.read_text()
    assert page.read_text().startswith("before\n")


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_meaning_and_a_row_of_one_line(kind):
    for name, *cells, told in reference_rows(file_model(kind)):
        assert len(told) > 3, name
        assert not any("\n" in cell for cell in (*cells, told)), name


def test_a_default_of_many_lines_is_told_by_its_first():
    defaults = {name: default for name, _, default, _ in reference_rows(file_model("pairs"))}
    (template,) = {default for name, default in defaults.items() if name.endswith(".template") and default != "-"}
    assert re.fullmatch(r"`Judge the answer below to the question below\.` and \d+ lines behind it", template)


SHIPPED = sorted(f for f in (ROOT / "recipes").glob("*/*.yaml") if stage_of_file(f))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_shipped_files_fit_their_schema(file):
    wanted = json.loads((ROOT / "recipes" / "schema" / f"{stage_of_file(file)}.json").read_text())
    found = jsonschema.Draft202012Validator(wanted).iter_errors(yaml.safe_load(file.read_text()))
    assert [error.message for error in found] == []


def test_a_schema_refuses_what_the_loader_refuses():
    validator = jsonschema.Draft202012Validator(schema("sft"))
    good = {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": {"datasets": [{"id": "a"}]}}
    assert validator.is_valid(good | {"torch_dtype": "float32"}), "an old name is known, and marked as such"
    for wrong in ({"learning_rat": 1}, {"max_length": 0}, {"dtype": "float33"}, {"packing": "yes"}):
        assert not validator.is_valid(good | wrong), wrong
