"""What runs the harness's requests for one checkpoint."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from apo_soup.data.rendering.loaded_model import answer_ends
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.harness.models import reasoning_hflm, reasoning_vllm
from apo_soup.evals.harness.served import ServedHarness, served_lm
from apo_soup.models.think_tags import END_OF_THINKING

# vLLM makes its own batches. "auto" would do, but draws a bar, and divides by its time where bars are switched off.
VLLM_BATCH_SIZE = 2**20


class HarnessEngine:
    """What runs the harness's requests for one checkpoint: our transformers model, vLLM, which is started once, or a
    server.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, dtype: str):
        """`name` is `transformers`, `vllm` or `openai`; `dtype` is the one that vLLM loads the weights in."""
        self.checkpoint, self.name, self.dtype = checkpoint, name, dtype
        self._vllm: Any = None

    @cached_property
    def served(self) -> ServedHarness:
        """The server, with engine openai.

        Raises:
            UserError: the packages of endpoints are not installed.
        """
        return ServedHarness(self.checkpoint)

    def model(self, think: bool, tokenizer: Path) -> Any:
        """The harness's view of the checkpoint in one mode; `tokenizer` is a folder.

        Raises:
            UserError: the packages of endpoints are not installed, or the endpoint's keys are wrong.
        """
        if self.name == "openai":
            return served_lm()(self.served, think)
        settings: dict[str, Any] = {"enable_thinking": think, "think_end_token": END_OF_THINKING}
        if self.name != "vllm":
            settings |= {"tokenizer": self.checkpoint.tokenizer, "batch_size": self.checkpoint.batch_size}
            # The harness asks for no ends but its words; where a reasoning may still be open, it asks for none.
            self.checkpoint.model.generation_config.eos_token_id = self.ends
            return reasoning_hflm()(pretrained=self.checkpoint.model, **settings)
        if self._vllm is None:
            self.checkpoint.model.cpu()  # vLLM loads the weights itself, and takes what memory is left
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            settings |= {"pretrained": str(self.checkpoint.folder), "tokenizer": str(tokenizer), "dtype": self.dtype}
            settings["trust_remote_code"] = self.checkpoint.suite.trust_remote_code
            self._vllm = reasoning_vllm(self.ends)(**settings, seed=self.checkpoint.seed, batch_size=VLLM_BATCH_SIZE)
        self._vllm.enable_thinking = think
        return self._vllm

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end an answer of a model that lies here."""
        assert self.checkpoint.template is not None
        return sorted(answer_ends(self.checkpoint.template, self.checkpoint.model))

    def tell(self, where: str) -> None:
        """Say what happened to the answers of the tasks at `where`, which the harness's own talk would have hidden.

        Raises:
            UserError: as `model` does.
        """
        if self.name == "openai":
            self.served.tell(where)

    def close(self) -> None:
        """Give the accelerator back, which vLLM's own process keeps until it is told to end."""
        if self._vllm is not None:
            self._vllm.model.llm_engine.engine_core.shutdown()
            self._vllm = None
