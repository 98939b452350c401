"""What is said of another stage's folder that a stage builds on."""

import json

from apo_soup.runs.model_files import file_record
from apo_soup.runs.upstream import told_of_upstream


def test_a_changed_folder_and_one_made_with_arguments_are_told_and_others_are_not(tmp_path):
    assert list(told_of_upstream(tmp_path / "none")) == []
    folder = tmp_path / "mid"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert list(told_of_upstream(folder)) == [], "a model that no stage made"
    made = {"stage": "mid", "outputs": {"config.json": file_record(folder / "config.json")}}
    (folder / "manifest.json").write_text(json.dumps(made))
    assert list(told_of_upstream(folder)) == []
    (folder / "manifest.json").write_text(json.dumps(made | {"arguments": ["--max_steps", "1"]}))
    arguments = (
        "mid was made with --max_steps 1 on the command line, beside its file; what is there is built on, or make it "
        "again"
    )
    assert list(told_of_upstream(folder)) == [arguments]
    (folder / "config.json").write_text('{"a": 1}')
    changed, second = told_of_upstream(folder)
    assert changed.startswith(f"{folder} is not as the stage mid made it (config.json ")
    assert second == arguments
