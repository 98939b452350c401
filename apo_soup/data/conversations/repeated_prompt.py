"""Answers that begin with all of what they answer, as sets of plain prompts and completions write them by mistake."""

from apo_soup.data.sources.rows import Fields

# A shorter question may be repeated by who answers it.
FEWEST_CHARACTERS = 24


def repeats_prompt(turns: list[Fields]) -> bool:
    """Whether an answer of a conversation begins with the whole user turn before it.

    >>> repeats_prompt([{"role": "user", "content": "Q: " + "a" * 30}, {"role": "assistant", "content": "No."}])
    False
    """
    asked = ""
    for turn in turns:  # not pairs from a generator, which cost more than what is asked of them
        if asked and turn["role"] == "assistant" and turn["content"].startswith(asked.strip()):
            return True
        asked = turn["content"] if turn["role"] == "user" and len(turn["content"]) >= FEWEST_CHARACTERS else ""
    return False
