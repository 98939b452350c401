"""Models with their own code: the code goes with the weights, or the merge is refused."""

import pytest
from merge_helpers import PAIR, set_config

from apo_soup.errors import UserError
from merge.own_code import check_own_code, copy_own_code, other_code


@pytest.fixture
def coded(tmp_path):
    """Two models whose configuration names code, of which the second has another text."""
    made = [tmp_path / name for name in ("one", "other")]
    for folder in made:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        set_config(
            folder, auto_map={"AutoConfig": "there/it--its.Config", "AutoModelForCausalLM": "modeling_its.Model"}
        )
        (folder / "modeling_its.py").write_text(f"import helper  # {folder.name}")
        (folder / "helper.py").touch()
    return made


def test_code_is_copied_with_what_it_imports(coded, tmp_path):
    check_own_code(coded[0], "here")
    copy_own_code(coded[0], tmp_path, "here")
    assert sorted(file.name for file in tmp_path.glob("*.py")) == ["helper.py", "modeling_its.py"]
    assert other_code(coded[0], coded, "here") == [
        f"{coded[1]}/modeling_its.py differs from {coded[0]}/modeling_its.py, which the merge takes"
    ]


def test_code_that_is_not_there_is_named(coded):
    (coded[0] / "modeling_its.py").unlink()
    with pytest.raises(
        UserError, match=r"one/config\.json: auto_map: expected modeling_its\.py beside it, got no such"
    ):
        check_own_code(coded[0], "here")


def test_a_merge_takes_the_code_of_its_first_model_alone(run, merge_run):
    (run / "mid" / "stray.py").touch()
    merge_run(merge=PAIR)
    assert not list((run / "merged").glob("*.py"))
