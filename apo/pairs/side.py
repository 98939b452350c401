"""The strong and the weak side, and the judge: which model answers, and how it is sampled."""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

from apo_soup.config.asking import AskingFile
from apo_soup.config.judges import EndpointJudge, RewardJudge
from apo_soup.config.keys import has_mark
from apo_soup.config.sides import OpenaiSide, TransformersSide, VllmSide
from apo_soup.models.completion import Sampling

SIDE_NAMES = ("strong", "weak")
AskedKeys = TransformersSide | VllmSide | OpenaiSide | EndpointJudge | RewardJudge
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class AskedSide:
    """One side, with the file's own keys where it leaves out how it is sampled.

    `name` is strong, weak or judge; `where` is `FILE:LINE: KEY` of it, for messages; `keys` are those of its engine,
    with paths as they were found. `batch_size` is of transformers alone.
    """

    name: str
    where: str
    keys: AskedKeys
    sampling: Sampling
    candidates: int
    batch_size: int

    def request_seed(self, *parts: str | int) -> int:
        """A seed of 31 bits for one request or batch, from the recipe's seed, the side and `parts` alone."""
        text = repr((self.sampling.seed, self.name, *parts))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def deciding_settings(self) -> dict[str, Any]:
        """The settings that decide an answer beside the model itself, for the journal's name: neither cosmetic ones nor
        the model's name. A path stands as the file has it, for the place where it was found must not change the name.
        """
        settings: dict[str, Any] = {**vars(self.sampling), "candidates": self.candidates}
        if isinstance(self.keys, TransformersSide):
            settings["batch_size"] = self.batch_size
        if isinstance(self.keys, OpenaiSide):
            settings["send_template_kwargs"] = self.keys.send_template_kwargs
        settings |= self.keys.given_values() | {"engine": self.keys.kind}
        fields = type(self.keys).model_fields
        aside = {n for n, field in fields.items() if has_mark(field, "cosmetic") or has_mark(field, "input")}
        return {k: v for k, v in settings.items() if k not in aside}


def asked_side(recipe: AskingFile, name: str) -> AskedSide:
    """The side of that name, complete."""
    keys = recipe.sides()[name]
    assert isinstance(keys, TransformersSide | VllmSide | OpenaiSide)
    sampling = Sampling(
        max_new_tokens=_first(keys.max_new_tokens, recipe.max_new_tokens),
        temperature=_first(keys.temperature, recipe.temperature),
        top_p=_first(keys.top_p, recipe.top_p),
        top_k=_first(keys.top_k, recipe.top_k),
        min_p=_first(keys.min_p, recipe.min_p),
        seed=_first(keys.seed, recipe.seed),
    )
    candidates = _first(keys.candidates, recipe.candidates)
    own_size = keys.batch_size if isinstance(keys, TransformersSide) else None
    batch_size = _first(own_size, recipe.batch_size)
    return AskedSide(name, recipe.place(name), keys, sampling, candidates, batch_size)


def asked_judge(recipe: AskingFile) -> AskedSide | None:
    """The judge of a file as a side that is asked about answers, or None."""
    keys = recipe.judge
    if isinstance(keys, EndpointJudge):
        sampling = Sampling(keys.max_new_tokens, keys.temperature, seed=keys.seed)
        return AskedSide("judge", recipe.place("judge"), keys, sampling, keys.votes, 1)
    if isinstance(keys, RewardJudge):
        return AskedSide("judge", recipe.place("judge"), keys, Sampling(1), 1, keys.batch_size)
    return None


def _first(own: _Value | None, shared: _Value) -> _Value:
    """A side's own value where it is given, else the file's."""
    return shared if own is None else own
