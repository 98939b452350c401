"""vLLM in this process: how it is started, and its outputs as completions."""

from collections.abc import Set
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.errors import told_by_library
from apo_soup.models.completion import Completion


def started_llm(arguments: dict[str, Any], where: str) -> Any:
    """A `vllm.LLM` with these arguments; `where` is `FILE:LINE: KEY` of the engine.

    Raises:
        UserError: vLLM refuses the model or an argument.
    """
    from vllm import LLM

    refusals = (TypeError, ValueError, RuntimeError, OSError)
    taken = "a model and arguments that vLLM starts with"
    with told_by_library(where, refusals, expected=taken, way="correct what it names"):
        return LLM(**arguments)


def vllm_completion(output: Any, tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> Completion:
    """One of vLLM's `CompletionOutput`s without its end-of-turn token; `ends` are what it was told to stop at."""
    ids = list(output.token_ids)
    finished = output.finish_reason == "stop"
    # vLLM reads generation settings of its own, and names the token that ended a turn by them.
    if finished and ids and (ids[-1] in ends or ids[-1] == output.stop_reason):
        ids.pop()
    return Completion(str(tokenizer.decode(ids, skip_special_tokens=False)), len(ids), finished)
