"""Plain texts that are a rendered chat: every turn of them would be trained, whoever said it."""

import re

# What the templates of model families write before a turn.
TURN_MARKS = re.compile(
    r"<\|(?:im_start|start_header_id|start|header_start|turn|role_start)\|?>|<\|(?:user|assistant|system)\|>"
    r"|<\|START_OF_TURN_TOKEN\|>|<start_of_turn>|<\|turn>|\[INST\].*\[/INST\]|<｜(?:User|Assistant)｜>|\[\|(?:user|assistant)\|\]"
)


def rendered_chat_fault(text: str) -> str | None:
    """Why a text cannot be trained where only the assistant's words are to be, or None."""
    mark = TURN_MARKS.search(text)
    if not mark:
        return None
    return (
        f"field text: expected messages where assistant_only_loss is true, got a rendered chat ({mark[0]}), of which "
        "every turn would be trained; give the row its messages, or write assistant_only_loss: false and "
        "special_tokens_in_text: allow"
    )
