"""Run a suite on one model: tasks to scores, with the items' outcomes and a few samples kept.

    python -m evals --config recipes/tiny/eval.yaml
    python -m evals --config recipes/tiny/eval.yaml --model runs/tiny/merged

Generation is greedy, so the same model, suite and versions give the same answers again.
"""

import copy
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from corpus.completion import Sampling
from corpus.conversation import conversation, pair, template_kwargs
from corpus.edges import token_ranges
from corpus.encode import encode_pair
from corpus.generate import generate
from corpus.logprobs import completion_logprobs
from corpus.mask import Renderer
from corpus.rows import RowError, read_all
from corpus.tokenizer import encode, load_tokenizer
from corpus.verify import obeys, verifier
from evals.stats import mean, share
from evals.suite import Task, read_tasks
from pipeline.errors import UserError
from pipeline.recipe import Recipe

Metrics = dict[str, dict[str, Any]]


class Runner:
    """One loaded model and the settings every task needs."""

    def __init__(self, recipe: Recipe, folder: Path, model: PreTrainedModel | None = None):
        values = recipe.values
        self.where = str(recipe.path)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(str(folder), self.where, values.get("chat_template"))
        self.renderer = Renderer(self.tokenizer)
        dtype = values.get("dtype", "float32")
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype) if model is None else copied(model, dtype)
        self.model: PreTrainedModel = loaded.eval()
        if torch.cuda.is_available():
            self.model = self.model.to("cuda")
        self.batch_size = values.get("batch_size", 32)
        self.tokens_per_batch = values.get("max_context_tokens_per_batch", 8192)
        self.samples = values.get("samples", 3)

    def run(self, task: Task) -> tuple[Metrics, list[dict[str, Any]]]:
        """Metrics of one task by name, and sample outputs."""
        rows = [row.fields for row in read_all(task.data, self.where)][: task.limit]
        try:
            return getattr(self, f"_{task.kind}")(task, rows)
        except (RowError, KeyError, ValueError) as error:
            raise UserError(
                f"{self.where}: task {task.name}: {task.data} does not fit kind {task.kind}: {error}"
            ) from error

    def _answer(self, task: Task, rows: list[dict]) -> tuple[Metrics, list[dict]]:
        right = verifier(task.verifier, self.where)
        metrics, samples, obedience = {}, [], []
        for mode in task.modes:
            think = mode == "think"
            prompts = []
            for row in rows:
                asked = row[task.question]
                messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
                prompts.append(self.renderer.prompt(messages, {**template_kwargs(row, {}), "enable_thinking": think}))
            sampling = Sampling(task.max_new_tokens)
            completions = generate(self.model, self.tokenizer, prompts, sampling, self.batch_size)
            hits, groups = [], defaultdict(list)
            for row, completion in zip(rows, completions, strict=True):
                hit = completion.finished and right(completion.text, str(row[task.reference]))
                hits.append(hit)
                obedience.append(completion.finished and obeys(completion.text, think))
                if "group" in row:
                    groups[row["group"]].append(hit)
            metrics[f"{task.name}/{mode}"] = {**asdict(share(hits)), "items": [int(h) for h in hits]}
            for group, outcomes in sorted(groups.items()):
                metrics[f"{task.name}/{mode}/{group}"] = asdict(share(outcomes))
            metrics[f"{task.name}/{mode}/tokens"] = asdict(mean([float(c.tokens) for c in completions]))
            for row, completion, hit in list(zip(rows, completions, hits, strict=True))[: self.samples]:
                asked = row[task.question]
                question = asked if isinstance(asked, str) else asked[-1]["content"]
                samples.append({"mode": mode, "question": question, "answer": completion.text, "right": hit})
        metrics[f"{task.name}/obedience"] = {**asdict(share(obedience)), "items": [int(o) for o in obedience]}
        return metrics, samples

    def _recall(self, task: Task, rows: list[dict]) -> tuple[Metrics, list[dict]]:
        items = []
        for row in rows:
            prompt = self.renderer.prompt(row["messages"], template_kwargs(row, {})) + row["prefix"]
            items.append((self._ids(prompt), self._ids(row["answer"])))
        hits, groups = [], defaultdict(list)
        for row, (_, _, greedy) in zip(
            rows, completion_logprobs(self.model, items, self.tokens_per_batch), strict=True
        ):
            hits.append(greedy)
            groups[row["group"]].append(greedy)
            groups[f"{row['group']}@{row['depth']}"].append(greedy)
        metrics = {f"{task.name}/{group}": asdict(share(outcomes)) for group, outcomes in groups.items()}
        for group in {row["group"] for row in rows}:
            metrics[f"{task.name}/{group}"]["items"] = [int(h) for h in groups[group]]
        return metrics, []

    def _preference(self, task: Task, rows: list[dict]) -> tuple[Metrics, list[dict]]:
        items = []
        for row in rows:
            encoded = encode_pair(pair(row, {}), self.renderer, self.tokenizer)
            items += [(encoded["prompt_ids"], encoded[side]) for side in ("chosen_ids", "rejected_ids")]
        scores = [s for s, _, _ in completion_logprobs(self.model, items, self.tokens_per_batch)]
        margins = [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
        hits = [margin > 0 for margin in margins]
        return {
            task.name: {**asdict(share(hits)), "items": [int(h) for h in hits]},
            f"{task.name}/margin": asdict(mean(margins)),
        }, []

    def _loss(self, task: Task, rows: list[dict]) -> tuple[Metrics, list[dict]]:
        groups = defaultdict(list)
        for row in rows:
            item = conversation(row, {})
            rendered = self.renderer.conversation(item)
            encoding = encode(self.tokenizer, [rendered.text])[0]
            ids = torch.tensor([encoding.ids], device=self.model.device)
            with torch.inference_mode():
                scores = self.model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            losses = -scores.gather(1, ids[0, 1:, None])[:, 0]  # [S - 1], of the tokens from the second on
            for first, last in token_ranges(encoding.offsets, rendered.spans):
                groups[item.mode] += losses[max(0, first - 1) : last - 1].tolist()
        every = [v for values in groups.values() for v in values]
        metrics = {f"{task.name}/{mode}": asdict(mean(values)) for mode, values in groups.items()}
        return metrics | {task.name: asdict(mean(every))}, []

    def _ids(self, text: str) -> list[int]:
        return encode(self.tokenizer, [text])[0].ids


def copied(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """A copy of a model in the type that a suite evaluates in."""
    return copy.deepcopy(model) if dtype == "auto" else copy.deepcopy(model).to(getattr(torch, dtype))


def evaluate(recipe: Recipe, folder: Path, model: PreTrainedModel | None = None) -> dict[str, Any]:
    """All tasks on one model: scores, samples and seconds by task.

    Args:
        folder: the model's folder, whose tokenizer is taken; with `model`, only the tokenizer is.
    """
    runner = Runner(recipe, folder, model)
    results: dict[str, Any] = {"metrics": {}, "samples": [], "seconds": {}}
    for task in read_tasks(recipe):
        started = time.monotonic()
        metrics, samples = runner.run(task)
        results["metrics"] |= metrics
        results["samples"] += [{"task": task.name, **s} for s in samples]
        results["seconds"][task.name] = round(time.monotonic() - started, 2)
    return results
