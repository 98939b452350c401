"""Control tokens in the text of an answer: ends of turn that a server left behind it, and others inside.

What a server sends is text; its tokenizer is not known here. So the tokens are known by how they are written in all
chat templates: `<|...|>` with a name between, and a few without bars.
"""

import re

_BARS = r"<[|｜][A-Za-z][\w▁ .:/-]{0,40}[|｜]>"
_PLAIN = (
    "</s>", "<s>", "<eos>", "<bos>", "<pad>", "<unk>", "<end_of_turn>", "<start_of_turn>", "<end_of_utterance>",
    "<turn|>", "<|turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<EOT>", "<extra_id_0>", "<extra_id_1>",
    "<EOD>", "<eod>", "<sep>", "<eop>", "<eos_token>", "[EOS]", "[BOS]", "[gMASK]",
)  # fmt: skip
CONTROL = re.compile(f"{_BARS}|{'|'.join(map(re.escape, _PLAIN))}")
_AT_END = re.compile(rf"(?:\s*(?:{CONTROL.pattern}))+\s*\Z")


def without_control_ends(text: str) -> str:
    """An answer without the control tokens behind it, and the white space around them."""
    # Most answers have none, and the search from the right place costs nothing then.
    found = _AT_END.search(text) if text.rstrip()[-1:] in (">", "]") else None
    return text[: found.start()] if found else text


def control_token_in(text: str) -> str | None:
    """The first control token in a text, None where there is none."""
    found = CONTROL.search(text)
    return found[0] if found else None
