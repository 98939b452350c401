"""Answers that begin with all of what they answer, as sets of plain prompts and completions write them by mistake."""

from itertools import pairwise

from apo_soup.data.sources.rows import Fields

# A shorter question may be repeated by who answers it.
FEWEST_CHARACTERS = 24


def repeats_prompt(turns: list[Fields]) -> bool:
    """Whether an answer of a conversation begins with the whole user turn before it.

    >>> repeats_prompt([{"role": "user", "content": "Q: " + "a" * 30}, {"role": "assistant", "content": "No."}])
    False
    """
    return any(
        answer["role"] == "assistant"
        and before["role"] == "user"
        and len(before["content"]) >= FEWEST_CHARACTERS
        and answer["content"].startswith(before["content"].strip())
        for before, answer in pairwise(turns)
    )
