"""Files of ours that are read back: what may have become of them is one sentence, or a fault to go on from."""

import json

import pytest

from apo_soup.errors import UserError
from apo_soup.stored_json import Count, Form, OtherFormError, form_fault, json_of_form, read_json


class Kept(Form):
    """A form for the tests."""

    name: str
    sizes: dict[str, Count] = {}  # noqa: RUF012 - pydantic copies it


DAMAGES = [
    ("", "expected valid JSON, got what is none"),
    ('{"name": "a"', "expected valid JSON, got what is none"),
    (b"\xff\xfe{", "expected valid JSON, got what is none"),
    ("[" * 10**5, "expected valid JSON, got what is none"),
    ("null", "expected a mapping, got null"),
    ("[1]", "expected a mapping, got a list"),
    ("{}", "expected name, got nothing"),
    ('{"name": 3}', "name: expected text, got the number 3"),
    (f'{{"name": 1{"0" * 400}}}', "name: expected text, got a number of too many digits"),
    ('{"name": "a", "sizes": []}', "sizes: expected a mapping, got a list"),
    ('{"name": "a", "sizes": {"b": -1}}', "sizes.b: expected a number of 0 or more, got the number -1"),
    ('{"name": "a", "sizes": {"b": [1]}}', "sizes.b: expected a whole number, got a list"),
]


@pytest.mark.parametrize(("content", "told"), DAMAGES)
def test_a_file_of_another_form_is_told_by_the_key_that_is_wrong(tmp_path, content, told):
    file = tmp_path / "kept.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OtherFormError) as found:
        json_of_form(file, Kept)
    assert str(found.value).startswith(told)
    with pytest.raises(UserError) as error:
        read_json(file, tmp_path, "make it again", Kept)
    assert str(error.value) == f"{file}: {found.value}; make it again"
    with pytest.raises(UserError, match=r"^recipe\.yaml:3: .*kept\.json: "):
        read_json(file, "recipe.yaml:3", form=Kept)


def test_what_a_form_does_not_name_stays_as_it_is(tmp_path):
    file = tmp_path / "kept.json"
    content = {"name": "a", "other": [1, {"deep": None}]}
    file.write_text(json.dumps(content))
    assert json_of_form(file, Kept) == content
    assert form_fault(content, Kept) is None
    file.unlink()
    with pytest.raises(UserError, match=r"^here: expected a file that can be read, got .*; check its permissions"):
        read_json(file, "here")
