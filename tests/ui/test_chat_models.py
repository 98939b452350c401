"""The models that can be talked to, with a suite and without."""

from apo_soup.ui.chat_models import chat_models


def test_a_suite_names_the_models_with_its_template(recipe, tmp_path):
    file = recipe / "eval.yaml"
    file.write_text(file.read_text().replace("models:", f"models:\n  gone: {tmp_path / 'gone'}\n  hub: owner/name", 1))
    found = {model.name: model for model in chat_models(recipe)}
    assert list(found) == ["gone", "hub", "one", "two"]
    assert [model.is_there for model in found.values()] == [False, True, True, True]
    assert {model.template for model in found.values()} == {"apo-soup"}


def test_a_folder_of_an_adapter_alone_is_there(recipe, tmp_path):
    (tmp_path / "one").mkdir()
    file = recipe / "eval.yaml"
    file.write_text(file.read_text().replace("models:", f"models:\n  adapter: {tmp_path / 'one'}", 1))
    for there in (False, True):
        assert {model.name: model for model in chat_models(recipe)}["adapter"].is_there is there
        (tmp_path / "one" / "adapter_config.json").write_text("{}")


def test_without_a_suite_they_are_the_base_and_what_the_files_make(recipe, tmp_path, talking_model):
    (recipe / "eval.yaml").unlink()
    base, made = chat_models(recipe)
    assert (base.name, base.model, base.template, base.is_there) == ("base", str(talking_model), "apo-soup", True)
    assert (made.name, made.model, made.is_there) == ("sft", str(tmp_path / "runs/mine/sft"), False)
    (recipe / "sft.yaml").write_text("learning_rat: 1\n")
    assert chat_models(recipe) == [], "what is wrong with it stands on the first page"
