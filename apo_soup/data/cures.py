"""What to do about a row and a chat template that do not fit each other: the last part of sentences about rows."""

OTHER_TEMPLATE = "correct the row, or choose another chat_template"
INTO_USER = "write system_turn: into_user for the source, or choose another chat_template"
NO_BLOCK_TEMPLATE = "add it, or choose a chat_template that opens no think block there"
IN_CONTENT = "write it into the content, between <think> and </think>"
REASONING_TEMPLATE = "choose a chat_template that renders it"
CORRECT_TEMPLATE = "correct the template, or choose another chat_template"
OTHERWISE_TRAINED = "so a model would be asked otherwise than it is trained"
MEND_OR_LEAVE_OUT = "mend the row or leave it out"
# Filled with what is to be given the argument: rows or pairs.
NO_THINK_CURE = (
    "give no-think {0} enable_thinking: false, or their source chat_template_kwargs: {{enable_thinking: false}}, or "
    "mode: by_row where it holds both"
)
THINK_CURE = (
    "give think {0} enable_thinking: true, or their source chat_template_kwargs: {{enable_thinking: true}}, or "
    "mode: by_row where it holds both"
)
