"""How a tokenizer cuts text before it merges bytes, by the name that llama.cpp has for it.

llama.cpp's converter knows a tokenizer by a hash of what it makes of one text. So it does not know one that was trained
anew, though it cuts as a known one does; and it takes one for another that makes the same of that text alone. Here the
name follows from what tokenizer.json says, where that is one of the plain cuts; that the tokens are the same is then
proved on the file (`compare.py`), whoever named it.
"""

from typing import Any

# Regular expressions of `Split` that take one digit at a time.
_ONE_DIGIT = (r"\d", r"\p{N}", r"\p{Nd}", "[0-9]")
_BYTES = "ByteLevel"


def llama_name(tokenizer: dict[str, Any]) -> str | None:
    r"""llama.cpp's name for the pre-tokenizer of a tokenizer.json, or None where it has none that we know of.

    >>> bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    >>> digits = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
    >>> llama_name({"model": {"type": "BPE"}, "pre_tokenizer": bytes_alone})
    'gpt-2'
    >>> both = {"type": "Sequence", "pretokenizers": [digits, bytes_alone]}
    >>> llama_name({"model": {"type": "BPE"}, "pre_tokenizer": both})
    'smollm'
    >>> llama_name({"model": {"type": "Unigram"}, "pre_tokenizer": both}) is None
    True
    """
    if tokenizer.get("normalizer") or tokenizer["model"].get("type") != "BPE":
        return None
    found = tokenizer.get("pre_tokenizer") or {}
    parts = found.get("pretokenizers", [found])
    cuts_as_gpt2 = bool(parts) and _is_gpt2(parts[-1])
    if cuts_as_gpt2 and len(parts) == 1:
        return "gpt-2"
    return "smollm" if cuts_as_gpt2 and len(parts) == 2 and _takes_digits_apart(parts[0]) else None


def _is_gpt2(part: dict[str, Any]) -> bool:
    return part.get("type") == _BYTES and part.get("use_regex", True) and not part.get("add_prefix_space")


def _takes_digits_apart(part: dict[str, Any]) -> bool:
    if part.get("type") == "Digits":
        return bool(part.get("individual_digits"))
    pattern = part.get("pattern", {}).get("Regex") if part.get("type") == "Split" else None
    return pattern in _ONE_DIGIT and part.get("behavior") == "Isolated" and not part.get("invert")
