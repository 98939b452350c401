"""The models and rows that the parts are measured on, and what training on them has to compute."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import SmolLM3Config, SmolLM3ForCausalLM

# Shares of prompt, chosen and rejected in a pair, as real chat data has them; the spread of the logarithm of a length.
PARTS = (0.41, 0.28, 0.31)
SPREAD = 0.8
PROMPT_SHARE = 0.58  # of a conversation


@dataclass(frozen=True)
class Size:
    """How large the models and rows of a machine are.

    Attributes:
        config: of the model that speed is measured on.
        small: of the model that losses are compared on.
        pair_lengths: `max_length` of preference training, `chat_lengths` that of conversations.
        pairs: pairs of a step, `chats` packed rows of one.
        compared: the longest row of the comparison.
        rows: rows of different lengths whose compilations are counted.
    """

    config: dict[str, Any]
    small: dict[str, Any]
    pair_lengths: tuple[int, ...]
    chat_lengths: tuple[int, ...]
    pairs: int
    chats: int
    compared: int
    rows: int


TINY: dict[str, Any] = {
    "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
# SmolLM3-3B's is the configuration's default.
THREE_BILLION: dict[str, Any] = {"max_position_embeddings": 65_536, "tie_word_embeddings": True}
MIDDLE = TINY | {
    "vocab_size": 49_152, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4,
}  # fmt: skip
ON_GPU = Size(THREE_BILLION, MIDDLE, (8_192, 24_576), (32_768, 65_536), 16, 1, 4_096, 200)
ON_CPU = Size(TINY, TINY, (96,), (128,), 4, 1, 96, 4)


def size_here() -> Size:
    return ON_GPU if torch.cuda.is_available() else ON_CPU


def device_here() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_model(config: dict[str, Any], attention: str, dtype: torch.dtype) -> SmolLM3ForCausalLM:
    """A model with random weights, the same ones at every call, made on the device."""
    torch.manual_seed(0)
    with device_here():
        made = SmolLM3ForCausalLM._from_config(SmolLM3Config(**config), attn_implementation=attention, dtype=dtype)
    model: SmolLM3ForCausalLM = made
    return model


def pairs_of(count: int, longest: int, vocabulary: int) -> list[dict[str, list[int]]]:
    """Pairs of random tokens with log-normal lengths, an eighth of `longest` in the mean, none longer."""
    generator = random.Random(0)
    rows = []
    for _ in range(count):
        total = min(longest, _length(generator, longest / 8))
        lengths = [max(2, int(share * total)) for share in PARTS]
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        rows.append({n: _tokens(generator, k, vocabulary) for n, k in zip(names, lengths, strict=True)})
    return rows


def chats_of(rows: int, longest: int, vocabulary: int) -> list[dict[str, Any]]:
    """Conversations of random tokens, a sixteenth of `longest` in the mean, that fill `rows` such rows."""
    generator = random.Random(0)
    chats, room = [], rows * longest
    while room > 0:
        length = max(4, min(room, longest, _length(generator, longest / 16)))
        chats.append(
            {"input_ids": _tokens(generator, length, vocabulary), "trained": [int(PROMPT_SHARE * length), length]}
        )
        room -= length
    return chats


def _length(generator: random.Random, mean: float) -> int:
    return round(mean * generator.lognormvariate(-(SPREAD**2) / 2, SPREAD))


def _tokens(generator: random.Random, count: int, vocabulary: int) -> list[int]:
    return [generator.randrange(5, vocabulary) for _ in range(count)]


def needed_operations(config: SmolLM3Config, seen: Sequence[tuple[int, float]], scored: int) -> float:
    """Floating-point operations of one training pass that a loss comes from: weights of every layer for every token,
    attention, and the LM head for scored tokens; three times the forward pass, without what checkpointing repeats.

    Args:
        config: the model's.
        seen: of every sequence its tokens, and how many pairs of a query and a key it sees that sees them.
        scored: tokens with a loss.
    """
    heads, head = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    attention = 2 * config.hidden_size * head * (heads + (config.num_key_value_heads or heads))
    layer = attention + 3 * config.hidden_size * config.intermediate_size
    body = sum(config.num_hidden_layers * (2 * layer * n + 4 * heads * head * pairs) for n, pairs in seen)
    return 3 * (body + 2 * config.hidden_size * config.vocab_size * scored)


def operations_of_pairs(config: SmolLM3Config, pairs: list[dict[str, list[int]]]) -> float:
    """Those of preference pairs, each prompt once."""
    seen, scored = [], 0
    for pair in pairs:
        prompt, *answers = (len(pair[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        looked = prompt**2 / 2 + sum(n * prompt + n**2 / 2 for n in answers)
        seen.append((prompt + sum(answers), looked))
        scored += sum(answers)
    return needed_operations(config, seen, scored)


def operations_of_chats(config: SmolLM3Config, chats: list[dict[str, Any]]) -> float:
    """Those of conversations."""
    lengths = [len(chat["input_ids"]) for chat in chats]
    scored = sum(chat["trained"][1] - chat["trained"][0] for chat in chats)
    return needed_operations(config, [(n, n**2 / 2) for n in lengths], scored)


def matrix_rate(dtype: torch.dtype) -> float:
    """The best rate of a matrix product on this device, in operations a second."""
    import time

    device = device_here()
    side, best = (8192 if device.type == "cuda" else 256), 0.0
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(8):
        settle()
        begun = time.perf_counter()
        a @ b
        settle()
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best


def settle() -> None:
    """Wait for what the device has been asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
