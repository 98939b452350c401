"""Rows of unknown columns are told with the `rename` that would do."""

import pytest
from data_helpers import MESSAGES

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.data.conversations.rename_guess import format_remedy
from apo_soup.data.sources.mixture import mixture_sources
from apo_soup.errors import UserError


@pytest.mark.parametrize(
    ("row", "rename"),
    [
        ({"question": "q", "answer": "a"}, "question: prompt, answer: completion"),
        ({"prompt": "q", "response": "a"}, "response: completion"),
        ({"input": "q", "output": "a"}, "input: prompt, output: completion"),
        ({"Question": "q", "final_answer": "a", "n": 3}, "Question: prompt, final_answer: completion"),
        ({"userPrompt": "q", "model-answer": "a"}, "userPrompt: prompt, model-answer: completion"),
        ({"problem": "q", "solution": "a", "answer": "4"}, "problem: prompt, solution: completion"),
        ({"system_prompt": "s", "question": "q", "response": "a"},
         "question: prompt, response: completion, system_prompt: system"),
        ({"dialog": MESSAGES, "id": 3}, "dialog: messages"),
        ({"my_chat": [{"from": "user", "value": "x"}, {"from": "gpt", "value": "y"}]}, "my_chat: messages"),
        ({"input": MESSAGES[:1], "output": "a", "version": "v1"}, "input: prompt, output: completion"),
        ({"message": "q", "chat_history": MESSAGES, "response": "a", "preamble": "s"},
         "message: query, chat_history: history, preamble: system"),
        ({"question": "q", "answer": "a", "history": [["x", "y"]]}, "question: query, answer: response"),
        ({"contents": MESSAGES, "systemInstruction": {"parts": [{"text": "s"}]}},
         "contents: messages, systemInstruction: system"),
        ({"instructions": "s", "input": "q", "output": "a"}, "input: prompt, output: completion, instructions: system"),
        ({"content": "long", "url": "x"}, "content: text"),
        ({"y": "q", "no": "a"}, '"y": prompt, "no": completion'),
        ({"inputs": "q", "targets": "a", "user_id": "x"}, "inputs: prompt, targets: completion"),
        ({"input": "q", "solution": "a", "output": "b"}, "input: prompt, output: completion"),
        ({"input": MESSAGES[:1], "output": MESSAGES[1:]}, "input: prompt, output: completion"),
        ({"Question": "q", "Complex_CoT": "t", "Response": "a"},
         "Question: prompt, Response: completion, Complex_CoT: reasoning_content"),
        ({"question": "q", "answer": "a", "reasoning": "on"}, "question: prompt, answer: completion"),
        ({"question": "q", "answer": "a", "reasoning": "high"}, "question: prompt, answer: completion"),
    ],
)  # fmt: skip
def test_the_rename_is_guessed_from_names_and_types(row, rename):
    assert format_remedy(row, pairs=False).startswith(f"write rename: {{{rename}}}")


def test_pairs_are_guessed_too_and_what_cannot_be_guessed_is_told_in_general():
    row = {"question": "q", "response_better": "a", "response_worse": "b"}
    told = "write rename: {question: prompt, response_better: chosen, response_worse: rejected} for the source"
    assert format_remedy(row, pairs=True) == told
    assert "map their columns to prompt, chosen and rejected with rename" in format_remedy({"a": "x"}, pairs=True)
    assert "map their columns to messages, prompt and completion, or text" in format_remedy({"a": 3}, pairs=False)


def test_a_source_of_unknown_columns_stops_with_the_line_that_would_do(training_recipe):
    path = training_recipe([{"question": "q", "answer": "a"}])
    with pytest.raises(
        UserError, match=r"got rows with answer, question; write rename: {question: prompt, answer: compl"
    ):
        list(mixture_sources(load(path, stage_of_file(path))))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "completions": [{"response": "a"}], "source": "evol_instruct", "models": ["one"]},
        {"system": "SYSTEM: Help.", "chat": "USER: Hi. ASSISTANT: Hello."},
    ],
)
def test_columns_that_tell_of_a_row_and_system_texts_are_not_guessed(row):
    told = (
        "map their columns to messages, prompt and completion, or text with rename, such as rename: {question: prompt}"
    )
    assert format_remedy(row, pairs=False) == told


def test_prompts_without_an_answer_are_told_as_such():
    row = {"prompt": MESSAGES[:1], "reward_model": {"ground_truth": "4"}, "data_source": "x", "ability": "math"}
    told = "give each row its answer as completion, for they ask and nothing answers"
    assert format_remedy(row, pairs=False) == told


@pytest.mark.parametrize(
    ("row", "sides"),
    [
        ({"prompt": "q", "response_0": "a", "response_1": "b", "safer_response_id": 1}, "response_0 and response_1"),
        ({"context": MESSAGES[:1], "response1": "a", "response2": "b", "score": -2}, "response1 and response2"),
        ({"model_a": "x", "model_b": "y", "conversation_a": MESSAGES, "conversation_b": MESSAGES, "winner": "model_a"},
         "conversation_a and conversation_b"),
        ({"c_root_id_A": "x", "c_root_id_B": "y", "human_ref_A": "a", "human_ref_B": "b", "labels": 1},
         "human_ref_A and human_ref_B"),
        ({"prompt": "q", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]}, "the answers"),
    ],
)  # fmt: skip
def test_where_another_column_says_which_answer_is_the_better_no_rename_is_told(row, sides):
    told = f"no rename says which of {sides} is the better; give each row that one as chosen, the other as rejected, "
    assert format_remedy(row, pairs=True) == told + "and what they answer as prompt"


@pytest.mark.parametrize(
    "row", [{"messages": MESSAGES, "kto_tag": True}, {"prompt": "q", "completion": "a", "label": False}]
)
def test_rows_of_one_answer_are_no_pairs(row):
    assert format_remedy(row, pairs=True).startswith("train on rows of one answer with sft.yaml, or give each a better")
