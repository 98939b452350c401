"""Only what a loss comes from is computed: no padding, nothing that documents hide from each other, and of the LM head
the places that predict a trained token.

TRL's trainer calls a model with `fused_lm_head=True` and gets what it needs of every trained token: log-probability,
entropy, whether the token is the likeliest one. `add_trained_places` answers that call for batches of packed rows, and
leaves any other to TRL: the loss, its normaliser and what is logged stay TRL's.
"""

import types
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from apo_soup.data.trained_ranges import IGNORED
from apo_soup.models.document_attention import DOCUMENTS, stand_in_mask
from apo_soup.models.lm_head import LogitRule, TokenScores, tiled_scores, whole
from apo_soup.models.shared_rows import RowSharing, SharedRow
from apo_soup.private import attention_implementation

# What a call of a packed batch brings along; one with anything else is TRL's.
BATCH = {"input_ids", "labels", "position_ids", "use_cache"}
# What FlashAttention's comes along with beside that.
BOUNDARIES = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"}


@dataclass(frozen=True)
class DocumentRow:
    """The documents of a batch in one row, each as far as its last place that predicts a trained token: what lies
    behind it has no part in the loss. Padding and documents without a loss are left out whole.

    Attributes:
        input_ids: token ids `[1, N]`.
        position_ids: position ids `[1, N]`.
        lengths: of the documents, N in all.
        predicting: the places `[C]` that predict a trained token.
        targets: the tokens `[C]` predicted there.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: list[int]
    predicting: Tensor
    targets: Tensor


def document_row(input_ids: Tensor, position_ids: Tensor, labels: Tensor) -> DocumentRow:
    """The documents of a batch `[B, S]` of packed rows; one begins wherever positions do not go on.

    >>> ids, positions = torch.tensor([[5, 6, 7, 8, 0]]), torch.tensor([[0, 1, 0, 1, 0]])
    >>> row = document_row(ids, positions, torch.tensor([[-100, -100, -100, 8, -100]]))
    >>> row.input_ids.tolist(), row.lengths, row.predicting.tolist(), row.targets.tolist()
    ([[7]], [1], [0], [8])
    """
    begins = torch.ones_like(input_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids.diff() != 1
    predicting = torch.zeros_like(begins)
    predicting[:, :-1] = labels[:, 1:] != IGNORED
    document = begins.flatten().cumsum(0) - 1
    place = torch.arange(len(document), device=document.device)
    # The last predicting place of each document; -1 where it has none.
    last = torch.full_like(document, -1).scatter_reduce(0, document, place.where(predicting.flatten(), -1), "amax")
    kept = place <= last[document]
    lengths = torch.bincount(document[kept])
    return DocumentRow(
        input_ids.flatten()[kept][None],
        position_ids.flatten()[kept][None],
        lengths[lengths > 0].tolist(),
        predicting.flatten()[kept].nonzero()[:, 0],
        labels[:, 1:][predicting[:, :-1]],
    )


def add_trained_places(model: PreTrainedModel, tiles: bool, sharing: RowSharing | None = None) -> None:
    """Let a model that TRL gave its fused LM head answer `model(..., fused_lm_head=True)` for packed batches `[B, S]`
    by what their loss comes from, with a value for each trained token in fields `[C]`. Where the model attends by
    documents, nothing but they is computed.

    Args:
        model: with `trl.trainer.utils.add_fused_lm_head` called on it.
        tiles: run the LM head in tiles; else by TRL's kernel.
        sharing: processes that are trained on the same rows, each on its places of them; its fields are of those. What
            is not trained on is computed whole, by a forward pass alone.
    """
    stock = model.forward
    rule = logit_rule(model.config.get_text_config())
    known = BATCH if sharing is None else BATCH | BOUNDARIES

    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **inputs: Any) -> Any:
        """Fields `[C]` for batches of packed rows, else what the model returns."""
        given = {
            name: value for name, value in inputs.items() if value is not None
        }  # PEFT names all that there could be
        ours = fused_lm_head and not args and given.keys() <= known and {"labels", "position_ids"} <= given.keys()
        shares = sharing is not None and self.training
        if shares and fused_lm_head and not ours:
            raise ValueError(f"expected a batch of {', '.join(sorted(known))} alone, got {', '.join(sorted(given))}")
        if not ours or not bool((given["labels"][:, 1:] != IGNORED).any()):
            return stock(*args, fused_lm_head=fused_lm_head, **inputs)
        if not shares and BOUNDARIES & given.keys():
            return stock(fused_lm_head=True, **inputs)
        labels = given.pop("labels")
        if attention_implementation(self.config) == DOCUMENTS:
            row = document_row(given["input_ids"], given["position_ids"], labels)
            given = {
                "input_ids": row.input_ids,
                "position_ids": row.position_ids,
                "attention_mask": stand_in_mask(labels.device),
                "document_lengths": row.lengths,
            }
            predicting, targets = row.predicting, row.targets
        else:
            trained = F.pad(labels[:, 1:] != IGNORED, (0, 1))
            predicting, targets = trained.flatten().nonzero()[:, 0], labels[:, 1:][trained[:, :-1]]
        shared = SharedRow(cast(RowSharing, sharing), given["input_ids"].shape[1]) if shares else None
        if shared is not None:
            own, predicting = shared.own_places(predicting)
            targets = targets[own]
            given |= {name: shared.own(given[name]) for name in ("input_ids", "position_ids")} | {"shared_row": shared}
        if tiles:
            counted = len(predicting) > 0
            if not counted:  # a part of a row: one that does not count, for weights have a gradient on every process
                predicting = targets = predicting.new_zeros(1)
            hidden = self.base_model(**given | {"use_cache": False}).last_hidden_state.flatten(0, 1)[predicting]
            head: Any = self.get_output_embeddings()
            scored = scores_of(tiled_scores(hidden, whole(head.weight), whole(head.bias), targets, rule), counted)
        else:
            shifted = torch.full_like(given["input_ids"], IGNORED)
            shifted.view(-1)[predicting] = targets
            scored = stock(fused_lm_head=True, shift_labels=shifted, **given)
        if shared is not None:
            shared.check_attended()
        return scored

    model.forward = types.MethodType(forward, model)


def scores_of(scores: TokenScores, counted: bool) -> FusedCausalLMOutput:
    """What a model says of some tokens `[C]`, as TRL takes it, or in place of none, where they are not counted."""
    mask = torch.full_like(scores.is_top1, counted)
    if not counted:
        scores = TokenScores(scores.logprobs * 0.0, scores.entropy * 0.0, mask)
    return FusedCausalLMOutput(
        log_probs=scores.logprobs, entropy=scores.entropy, is_top1=scores.is_top1, label_mask=mask
    )


def logit_rule(text: Any) -> LogitRule:
    """What a model does to its logits, from its configuration (of its text part), as TRL's own kernel has it."""
    factors = (getattr(text, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"))
    scale = next((factor for factor in factors if factor is not None), None)
    divisor = getattr(text, "logits_scaling", None)
    if scale is None and divisor is not None:
        scale = divisor if text.model_type == "hyperclovax" else 1 / divisor
    return LogitRule(1.0 if scale is None else float(scale), getattr(text, "final_logit_softcapping", None))
