"""vLLM in this process."""

from collections.abc import Collection
from typing import Any

from vllm import SamplingParams

from apo.pairs.engines.engine import KeepAnswers
from apo.pairs.engines.rendering import rendered_prompts, side_tokenizer
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.sides import VllmSide
from apo_soup.data.rendering.loaded_model import answer_ends
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.errors import told_by_library
from apo_soup.models.completion import with_think_opening
from apo_soup.models.vllm import started_llm, vllm_completion

# Prompts that vLLM is given at a time: enough to keep it busy, few enough to lose little when it is killed.
PROMPTS_PER_CALL = 256


class VLLMEngine:
    """A model of vLLM; `engine_kwargs` go to `vllm.LLM` as they are. Every prompt has a seed of its own.

    Raises:
        UserError: the tokenizer cannot be used, or vLLM refuses the model or an argument.
    """

    def __init__(self, side: AskedSide, keys: VllmSide):
        self.side = side
        self.tokenizer = side_tokenizer(keys, side.where)
        self.renderer = Renderer(self.tokenizer)
        self.ends = answer_ends(self.renderer)
        arguments = {
            "model": keys.model,
            "revision": keys.revision,
            "dtype": keys.dtype,
            "trust_remote_code": keys.trust_remote_code,
            "seed": side.sampling.seed,
            **(keys.engine_kwargs or {}),
        }
        self.llm = started_llm(arguments, f"{side.where}.engine")

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: KeepAnswers) -> None:
        """See `Engine.answer`.

        Raises:
            UserError: the chat template is not valid Jinja, or vLLM's engine ends.
        """
        texts, refused = rendered_prompts(self.renderer, [p for p in prompts if p.id not in done])
        tokens = {key: self.tokenizer(text, add_special_tokens=False).input_ids for key, text in texts.items()}
        longest = self.llm.llm_engine.model_config.max_model_len
        for key, ids in tokens.items():
            if len(ids) >= longest:
                refused.append(Answer(key, [], problem=f"the prompt has {len(ids)} tokens, max_model_len is {longest}"))
        if refused:
            keep(refused)
        fitting = [p for p in prompts if p.id in tokens and len(tokens[p.id]) < longest]
        for start in range(0, len(fitting), PROMPTS_PER_CALL):
            chunk = fitting[start : start + PROMPTS_PER_CALL]
            requests = [{"prompt_token_ids": tokens[p.id]} for p in chunk]
            parameters = [self._parameters(p) for p in chunk]
            # Its engine is a process of its own and may die of anything; what was answered until then is kept.
            taken, again = "answers of vLLM", "the answers until now are kept, run the same command again"
            with told_by_library(f"{self.side.where}.engine", (Exception,), expected=taken, way=again):
                outputs = self.llm.generate(requests, parameters, use_tqdm=False)
            keep(
                [
                    Answer(
                        p.id,
                        [
                            with_think_opening(vllm_completion(o, self.tokenizer, self.ends), texts[p.id])
                            for o in output.outputs
                        ],
                        len(tokens[p.id]),
                    )
                    for p, output in zip(chunk, outputs, strict=True)
                ]
            )

    def close(self) -> None:
        """See `Engine.close`. The engine runs in a process of its own, which keeps the GPU until it is told to end."""
        self.llm.llm_engine.engine_core.shutdown()

    def _parameters(self, prompt: Prompt) -> Any:
        """The `SamplingParams` of one prompt."""
        sampling = self.side.sampling
        return SamplingParams(
            n=self.side.candidates,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=sampling.max_new_tokens,
            seed=self.side.request_seed(prompt.id),
            skip_special_tokens=False,
            stop_token_ids=sorted(self.ends),
        )
