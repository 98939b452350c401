"""The prepared folder: found again by content, made once, whole or not at all."""

import pytest
from data_helpers import ROWS, documents_of, prepared
from programs import Programs, kill_when, succeeded

from apo_soup.errors import UserError


def test_unchanged_content_is_found_and_anything_changed_is_not(training_recipe, write_rows):
    path = training_recipe(ROWS)
    first, *_ = prepared(path)
    assert prepared(path, "--learning_rate", "0.5", "--dataset_num_proc", "2")[0] == first
    changed = [
        prepared(path, *words)[0]
        for words in (
            ("--max_length", "127"),
            ("--dataset_mixture.seed", "9"),
            ("--overflow", "drop"),
            ("--chat_template_kwargs", "{date_string: 1 May 2026}"),
            ("--dataset_mixture.datasets.0.weight", "0.5"),
            ("--packing_strategy", "wrapped"),
        )
    ]
    write_rows("rows.jsonl", ROWS[:-1])
    changed.append(prepared(path)[0])
    assert len({first, *changed}) == 8


def test_two_processes_at_once_make_the_folder_once(training_recipe):
    path = training_recipe(ROWS * 20)
    both = Programs("-m", "apo_soup", "prepare", "--config", path, environments=({}, {}))
    assert succeeded(both.wait()).count("prepared rows found") == 1


def test_a_killed_preparation_leaves_nothing_half_made(training_recipe):
    path = training_recipe(ROWS * 400)
    folder = path.parent / "run" / "prepared"
    running = Programs("-m", "apo_soup", "prepare", "--config", path)
    kill_when(running, lambda: any(f.stat().st_size for f in folder.glob(".sft-*.partial/documents.bin")))
    assert not list(folder.glob("sft-*"))
    made, splits, _ = prepared(path)
    assert len(documents_of(splits["train"])) == 81 * 400
    files = ["content.json", "dataset_dict.json", "places.jsonl", "stats.json", "train"]
    assert sorted(f.name for f in made.iterdir()) == files
    assert [f.name for f in folder.iterdir() if not f.name.endswith(".lock")] == [made.name]


def test_a_folder_found_is_held_to_the_share_of_rejects(training_recipe):
    path = training_recipe([*ROWS[:40], *[{"messages": "x"}] * 10])
    first, _, _ = prepared(path, "--max_reject_share", "0.5")
    with pytest.raises(
        UserError,
        match=r"at most 0\.01 of the rows rejected, got 10 of 50; .* the first is .*rows\.jsonl:41: field messages",
    ):
        prepared(path, "--max_reject_share", "0.01")
    assert prepared(path, "--max_reject_share", "0.2")[0] == first


def test_rows_that_change_while_they_are_read_make_no_folder(training_recipe):
    """The file is cut at the note on an argument of its rows, which is said when they have been read."""
    from apo_soup.config.load import load
    from apo_soup.data.prepare import prepare_mixture, prepared_folder
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    path = training_recipe(
        [{**row, "chat_template_kwargs": {"enable_thinking": False, "colour": "red"}} for row in ROWS]
    )
    recipe = load(path, "sft")
    tokenizer = recipe_tokenizer(recipe)
    rows, notes = path.parent / "rows.jsonl", []

    def cut(note: str) -> None:
        notes.append(note)
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:30]))

    folder = prepared_folder(recipe, tokenizer)
    with pytest.raises(UserError, match="expected rows that stay, got a file that changed while it was read"):
        prepare_mixture(recipe, tokenizer, cut)
    assert len(notes) == 1
    assert "colour" in notes[0]
    assert not folder.exists()


def test_what_a_killed_preparation_left_is_removed_by_the_next(training_recipe, write_rows):
    path = training_recipe(ROWS)
    folder, _, _ = prepared(path)
    left = folder.parent / ".sft-0123456789abcdef.partial"
    left.mkdir()
    write_rows("rows.jsonl", ROWS[:50])
    prepared(path)
    assert not left.exists()


def test_new_tokens_make_another_folder(training_recipe):
    path = training_recipe(ROWS)
    first = prepared(path)[0]
    new = ("--resize_embeddings", "true", "--add_tokens", "['<cite>']")
    assert prepared(path, *new)[0] != first
    assert prepared(path, *new)[0] != prepared(path, *new[:2], "--add_special_tokens", "['<cite>']")[0]
    assert prepared(path, *new[:2])[0] == first


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"{}", None])
@pytest.mark.parametrize(
    "name", ["content.json", "stats.json", "dataset_dict.json", "places.jsonl", "train/data-00000-of-00001.arrow"]
)
def test_prepared_rows_that_are_cut_are_made_again(training_recipe, capfd, name, text):
    path = training_recipe(ROWS[:8])
    folder, _, _ = prepared(path)
    file = folder / name
    whole = file.read_bytes()
    if text is None:
        file.write_bytes(whole[: len(whole) // 2])
    else:
        file.write_bytes(text)
    capfd.readouterr()
    again, splits, _ = prepared(path)
    assert (again, len(documents_of(splits["train"]))) == (folder, 8)


def test_prepared_rows_of_which_a_page_was_lost_are_made_again(training_recipe):
    """As after a power cut: a file of the same length, which can be read, and other tokens in it."""
    path = training_recipe(ROWS[:8])
    folder, _, _ = prepared(path)
    file = folder / "train" / "data-00000-of-00001.arrow"
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    prepared(path)
    assert file.read_bytes() == whole
