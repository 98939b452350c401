"""Weighted averages of models in memory, evaluated as models of their own.

    apo-soup eval --config eval.yaml --mix "half:runs/x/soup=0.5,runs/x/mid=0.5"

The weights are those that `python -m merge` writes for the same linear merge: summed in float64 and rounded once to the
type of the first model. Nothing is written but the results.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import Mix
from apo_soup.hashing import hash_value
from apo_soup.models.adapted import untie
from apo_soup.models.config_difference import config_difference, worded
from apo_soup.models.loading import load_causal_model
from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer


def whole_model(folder: Path, where: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model folder, or an adapter's with its base: a mix is of weights, not of an adapter's two factors.

    Raises:
        UserError: the model comes with its own code, and may not run it.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        from peft import AutoPeftModelForCausalLM  # seconds to import, and seldom needed

        from apo_soup.models.adapted import untied

        adapted = untied(
            load_causal_model(folder, where, trust_remote_code=trust_remote_code, loader=AutoPeftModelForCausalLM)
        )
        merged: PreTrainedModel = adapted.merge_and_unload()
        return merged
    model: PreTrainedModel = load_causal_model(folder, where, trust_remote_code=trust_remote_code)
    return model


class Mixer:
    """One model in memory, and the weights of every folder that was asked for once."""

    def __init__(self, where: str, trust_remote_code: bool = False):
        """`where` is the suite file, for messages."""
        self.where, self.trust_remote_code = where, trust_remote_code
        self.model: PreTrainedModel | None = None
        self.tokens: tuple[Path, str] | None = None
        self.first: Path | None = None
        self.weights = cache(self._weights)

    def _weights(self, folder: Path) -> dict[str, torch.Tensor]:
        self._check_tokens(folder)
        self._check_config(folder)
        loaded = whole_model(folder, f"{self.where}: --mix", self.trust_remote_code).eval()
        tensors = {name: p.detach() for name, p in loaded.named_parameters()}
        if self.model is None:
            self.model = loaded
            return {name: p.clone() for name, p in tensors.items()}
        self._take_own_head(tensors)
        shapes = {n: p.shape for n, p in self.model.named_parameters()}
        if shapes != {n: p.shape for n, p in self._with_head(tensors).items()}:
            raise UserError(
                f"{self.where}: --mix: expected models of one architecture, got other tensors in {folder}; leave it out"
            )
        return tensors

    def _take_own_head(self, tensors: dict[str, torch.Tensor]) -> None:
        """Untie the model in memory where weights come with a head of their own."""
        assert self.model is not None
        head = self.model.get_output_embeddings()
        if head is not None and self.tied and len(tensors) > len(list(self.model.named_parameters())):
            untie(self.model, head)

    @property
    def tied(self) -> bool:
        """Whether the head of the model in memory is its embeddings."""
        model: Any = self.model
        head = model.get_output_embeddings()
        return head is not None and head.weight is model.get_input_embeddings().weight

    def _with_head(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights with a head, where the model in memory has one of its own: of a tied model, its embeddings."""
        model: Any = self.model
        names = {parameter: name for name, parameter in model.named_parameters()}
        head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
        if head is None or self.tied or names[head.weight] in tensors:
            return tensors
        return {**tensors, names[head.weight]: tensors[names[embeddings.weight]]}

    def _check_tokens(self, folder: Path) -> None:
        """Refuse a folder whose tokens are not those of the first one: an average of rows for different words is none.

        Raises:
            UserError: naming both.
        """
        tokenizer = stored_tokenizer(file_in(folder), f"{self.where}: --mix: {folder}")
        if tokenizer is None:
            return
        tokens = hash_value(sorted(tokenizer.get_vocab(with_added_tokens=True).items()))
        first, known = self.tokens = self.tokens or (folder, tokens)
        if tokens != known:
            raise UserError(
                f"{self.where}: --mix: expected models with the tokens of {first}, got another tokenizer in {folder}; "
                "leave it out"
            )

    def _check_config(self, folder: Path) -> None:
        """Refuse a folder whose configuration makes other things of the same weights than that of the first one, which
        the mix is run with. A head of its own is no such thing.

        Raises:
            UserError: naming the key and both.
        """
        if not (folder / "config.json").is_file():
            return  # an adapter's, of which the base counts
        self.first = self.first or folder
        where = f"{self.where}: --mix"
        found = config_difference(self.first, folder, where, ("tie_word_embeddings",))
        if found:
            key, expected, got, way = found
            raise UserError(
                f"{where}: {folder}/config.json: {key}: expected {worded(expected)}, as in {self.first}/config.json, "
                f"got {worded(got)}; {way}"
            )

    @torch.no_grad()
    def mixed_model(self, mix: Mix) -> PreTrainedModel:
        """The model with these weights, in place: the last mix is gone.

        Raises:
            UserError: the folders hold models of different architectures, or with different tokens.
        """
        loaded = [(self.weights(folder), weight) for folder, weight in mix.parts]
        assert self.model is not None  # loading the first part made it
        inputs = [(self._with_head(tensors), weight) for tensors, weight in loaded]
        for name, parameter in self.model.named_parameters():
            total = torch.zeros(parameter.shape, dtype=torch.float64)
            for tensors, weight in inputs:
                total.add_(tensors[name].double(), alpha=weight)
            # The float32 models of a suite are evaluated in float32, as a written checkpoint would be.
            parameter.copy_(total.to(inputs[0][0][name].dtype))
        return self.model
