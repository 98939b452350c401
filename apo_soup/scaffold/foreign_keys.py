"""What the keys of another project are here: ours by another name, or nothing, with a reason."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Ours = dict[str, Any]


@dataclass(frozen=True)
class ForeignKeys:
    """A project's keys.

    Attributes:
        name: the project's.
        renamed: keys that are ours by another name.
        values: of a key, the values that are ours by another name.
        left_out: beginnings of keys that nothing here needs, with the reason; the first that fits holds.
        base: the key of the base model.
        rows: the key of the rows.
    """

    name: str
    base: str
    rows: str
    renamed: dict[str, str]
    values: dict[str, Callable[[Any], Ours]]
    left_out: dict[str, str]

    def reason(self, key: str) -> str:
        """Why a key is left out."""
        return next((why for start, why in self.left_out.items() if key.startswith(start)), "nothing here reads it")


SPEED = "it concerns speed or memory alone"
TRACKER = "trackers are named in report_to"
LAUNCH = "accelerate's launch file says it: --launch fsdp2.yaml"
ALONE = "each process takes sequences of its own"
ITSELF = "a stage does so by itself"
OTHER_WAY = "another way of training, which is not done here"
OPTIMISER = "an optimiser of its own, which is not here; optim names those that are"
NOT_TEXT = "images and sounds are not trained here"
GOING_ON = "name the adapter's folder as the model, with use_peft: true"
PARTS = "all weights are trained, or an adapter"
REFERENCE_IS = "the reference is the model that training begins with"
COUNT = "weight takes a share of a source's rows"
_ATTENTION = {"flash_attention_2", "sdpa", "eager", "flex_attention"}


def if_true(key: str, value: Any) -> Callable[[Any], Ours]:
    """A key of ours where theirs is true."""
    return lambda given: {key: value} if given is True else {}


def shared_rows(value: Any) -> Ours:
    """The number of processes that share each sequence, where they are several."""
    several = isinstance(value, int) and not isinstance(value, bool) and value > 1
    return {"sequence_parallel_size": value} if several else {}


def attention(value: Any) -> Ours:
    """The attention by its name in transformers."""
    return {"attn_implementation": value} if isinstance(value, str) and value in _ATTENTION else {}


def quantised(value: Any) -> Ours:
    """The number of bits of a quantised base."""
    return {"load_in_4bit": True} if value == 4 else {"load_in_8bit": True} if value == 8 else {}
