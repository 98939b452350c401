"""One training step on tensors that have shapes and no data: what it will hold in memory, and how much it computes.

The model is built from its configuration alone, and torch runs its forward and backward pass, with autocast, adapter
and checkpointing as they will be. So the figures hold for any architecture, and for a model of any size on any machine.
A kernel that cannot run here, such as FlashAttention, is stood in for by one that keeps what it would keep.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, PreTrainedConfig

from apo.pair_attention import PAIRS, register_pair_attention
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.models.lm_head import CACHED_LOGITS, SCORE_TILE_LOGITS, tiled_logprobs
from apo_soup.models.vocabulary_blocks import Head, HeadGradients, read_tile, token_tiles
from apo_soup.plan.live_memory import LiveMemory
from apo_soup.private import fake_tensors

# The attention that stands in for kernels whose memory grows with the row and not with its square.
STAND_IN = "stand_in"
# Of the tiles of a head the first is smaller and begins the gradients, and from the third on each is as the one before.
DIFFERENT_TILES = 3


@dataclass(frozen=True)
class RehearsedModel:
    """A model as a stage trains it.

    Attributes:
        config: its architecture.
        loaded: the type that it is loaded in, `trained` that of trained weights, `computed` that of products, by
            their names in torch.
        attention: its attention implementation, or STAND_IN.
        adapter: what PEFT trains in place of it, or None.
        checkpointing: options of activation checkpointing, or None where all activations are kept.
        quantised: bytes of a number in the frozen layers of a base of few bits, or None.
        trusted: code that comes with the model may run.
    """

    config: PreTrainedConfig
    loaded: str
    trained: str
    computed: str
    attention: str
    adapter: PeftConfig | None = None
    checkpointing: dict[str, Any] | None = None
    quantised: float | None = None
    trusted: bool = False


@dataclass(frozen=True)
class RehearsedBatch:
    """What goes through the model at once: `rows` of `width` positions, of which `scored` predict a trained token of a
    conversation, or of a preference pair; `documents` lie in the rows together.
    """

    rows: int
    width: int
    scored: int
    of_pairs: bool = False
    documents: int = 1

    @property
    def positions(self) -> int:
        """All of them."""
        return self.rows * self.width


@dataclass(frozen=True)
class Rehearsal:
    """Bytes and operations of a step.

    Attributes:
        weights: bytes of all weights, of which `trained` are trained.
        largest_layer: numbers in the largest layer, and `outside` of what is in no layer, such as embeddings.
        passes: the most bytes at once in the passes beside the weights and the optimiser's: activations, gradients.
        activations: the same without finished gradients.
        process: the most bytes at once, weights and the optimiser's among them, in a process that does not give small
            blocks back.
        operations: floating-point operations of the matrix products of the passes but for those of attention; those
            that checkpointing repeats are among them.
    """

    weights: int
    trained: int
    largest_layer: int
    outside: int
    passes: int
    activations: int
    process: int
    operations: int


def weights_of(model: RehearsedModel) -> tuple[int, int]:
    """Bytes of all weights, and of the trained ones."""
    with _attention_known(model.attention):
        built = _without_weights(model)
    size, spared = getattr(torch, model.trained).itemsize, _spared(built, model)
    trained = sum(parameter.numel() * size for parameter in built.parameters() if parameter.requires_grad)
    frozen = sum(parameter.nbytes for parameter in built.parameters() if not parameter.requires_grad)
    return trained + frozen - spared, trained


def rehearse(model: RehearsedModel, batch: RehearsedBatch, states: float, holds_gradients: bool) -> Rehearsal:
    """Build a model and run the passes of a step that is not the first: the optimiser's states are there.

    Args:
        batch: the largest that goes through the model at once.
        states: bytes that the optimiser keeps for a byte of trained weights.
        holds_gradients: a step has more than one such batch, so that gradients are there when the next one begins.
    """
    with _attention_known(model.attention):
        built = _without_weights(model)
    live = LiveMemory()
    with fake_tensors(), live.counting():
        _give_memory(built, getattr(torch, model.trained))
        trained = [parameter for parameter in built.parameters() if parameter.requires_grad]
        live.set_apart([*built.parameters(), *built.buffers()])
        held = [torch.empty(int(parameter.nbytes * states), dtype=torch.uint8) for parameter in trained]
        live.set_apart(held)
        before = live.now
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(lambda p: live.set_apart([p.grad]))
            parameter.grad = torch.empty_like(parameter) if holds_gradients else None
        live.set_apart([parameter.grad for parameter in trained if parameter.grad is not None])
        live.restart()
        _loss(built, model, batch).backward()  # type: ignore[no-untyped-call]  # torch's
        layers = [layer for part in built.modules() if isinstance(part, torch.nn.ModuleList) for layer in part]
        sizes = [_count(layer) for layer in layers]
        spared = _spared(built, model)
        return Rehearsal(
            weights=sum(parameter.nbytes for parameter in built.parameters()) - spared,
            trained=sum(parameter.nbytes for parameter in trained),
            largest_layer=max(sizes, default=0),
            outside=max(0, _count(built) - sum(sizes)),
            passes=live.peak - before,
            activations=live.rest_peak,
            process=live.process_peak - spared,
            operations=live.operations,
        )


def _without_weights(model: RehearsedModel) -> Any:
    """The model as it is trained, on the meta device."""
    with torch.device("meta"):
        built: Any = AutoModelForCausalLM.from_config(
            model.config,
            dtype=getattr(torch, model.loaded),
            attn_implementation="sdpa" if model.attention == DOCUMENTS else model.attention,
            trust_remote_code=model.trusted,
        )
        if model.attention == DOCUMENTS:
            attend_by_documents(built)
        if model.adapter is not None:
            built = get_peft_model(built, model.adapter)
    if model.checkpointing is not None:
        options = dict(model.checkpointing)
        every, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
        built.activation_checkpointing_enable(
            activation_checkpointing_kwargs=options or None, every_n_layers=every, offload=offload
        )
        if model.adapter is not None:
            built.enable_input_require_grads()
    return built.train()


def _give_memory(built: torch.nn.Module, trained: torch.dtype) -> None:
    """Put tensors that are counted in the place of those of the meta device, tied ones once. Trained ones are of the
    type `trained`.
    """
    made: dict[torch.Tensor, torch.Tensor] = {}
    for module in built.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in made:
                learns = parameter.requires_grad
                dtype = trained if learns and parameter.is_floating_point() else parameter.dtype
                made[parameter] = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype), learns)
            module.register_parameter(name, cast(torch.nn.Parameter, made[parameter]))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype), persistent=False)


def _loss(built: Any, model: RehearsedModel, batch: RehearsedBatch) -> Tensor:
    """A loss `[]` of the scored tokens of a batch, by the stages' own tiles of the LM head."""
    causal: Any = built.get_base_model() if isinstance(built, PeftModel) else built
    by_documents = model.attention == DOCUMENTS
    in_pieces = model.attention in (DOCUMENTS, PAIRS)
    shape = (1, batch.positions) if in_pieces else (batch.rows, batch.width)
    ids = torch.zeros(shape, dtype=torch.int64)
    mask: Tensor | None = None
    lengths: dict[str, Any] = {}
    if in_pieces:
        mask = torch.empty(1, 1, 1, 1, dtype=torch.bool)
        pieces = np.array_split(np.empty(batch.positions), batch.documents if by_documents else 3)
        sizes = [len(piece) for piece in pieces]
        lengths = {"document_lengths": sizes} if by_documents else {"pair_parts": [sizes]}
    elif model.attention != STAND_IN:
        mask = torch.ones(batch.rows, 1, batch.width, batch.width, dtype=torch.bool)
    scored = torch.zeros(batch.scored, dtype=torch.int64)
    computed = getattr(torch, model.computed)
    casts = computed in (torch.bfloat16, torch.float16) and model.computed != model.loaded
    with torch.autocast("cpu", computed) if casts else nullcontext():
        given = {"input_ids": ids, "position_ids": ids, "attention_mask": mask, "use_cache": False, **lengths}
        hidden = causal.base_model(**given)[0]
        head = causal.get_output_embeddings()
        picked = hidden.flatten(0, 1)[scored]
        if batch.of_pairs:
            return tiled_logprobs(picked, head.weight, head.bias, scored).sum()
        low = head.weight.to(picked.dtype)
        return cast(Tensor, _Head.apply(picked, low)).sum()  # type: ignore[no-untyped-call]  # torch's


def _spared(built: Any, model: RehearsedModel) -> int:
    """Bytes that frozen layers of few bits take less than those that are built in their place; the LM head has none."""
    if model.quantised is None:
        return 0
    causal: Any = built.get_base_model() if isinstance(built, PeftModel) else built
    layers = (m for m in causal.modules() if isinstance(m, torch.nn.Linear) and m is not causal.get_output_embeddings())
    frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
    return sum(round(weight.numel() * (weight.element_size() - model.quantised)) for weight in frozen)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _attention_known(name: str) -> Iterator[None]:
    """Let transformers know the stand-in, or the attention of pairs, where it is asked for."""
    if name == PAIRS:
        register_pair_attention()
    if name == STAND_IN:
        AttentionInterface.register(STAND_IN, _stand_in)
        AttentionMaskInterface.register(STAND_IN, _no_mask)
    yield


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def _stand_in(_: Any, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> tuple[Tensor, None]:
    """As transformers calls an attention: query `[B, heads, S, D]`, key and value `[B, groups, S, D]`; the result
    `[B, S, heads, D]`.
    """
    return _Kernel.apply(query, key, value).transpose(1, 2).contiguous(), None  # type: ignore[no-untyped-call]  # torch's


class _Kernel(torch.autograd.Function):
    """Keeps what fused kernels of attention keep for their backward pass: inputs, result, a float32 a row and head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """A result `[B, heads, S, D]` of no values."""
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result, torch.empty(query.shape[:-1], dtype=torch.float32))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the three, of no values."""
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _count_products(multiplications: int) -> None:
    """Have so many multiplications and additions counted, in one product that holds no memory: under autocast its
    operands would be copied.
    """
    one = torch.empty(1)
    with torch.autocast("cpu", enabled=False):
        torch.mm(one.expand(1, multiplications), one.expand(multiplications, 1))


class _Head(torch.autograd.Function):
    """Keeps and computes what `tiled_scores` does, which looks at values: the gradients, taken in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """A value `[C]`, of none, for hidden states `[C, H]` and a weight `[V, H]`."""
        needed = ctx.needs_input_grad
        if hidden.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            head = Head(hidden, weight, None, torch.zeros(len(hidden), dtype=torch.int64))
            gradients = HeadGradients(head, needed)
            tiles = token_tiles(len(hidden), max(1, SCORE_TILE_LOGITS // len(weight)))
            for part in tiles[:DIFFERENT_TILES]:
                scores = read_tile(head.part(part), keeps=True)
                gradients.add(part, scores, torch.ones_like(scores.picked))
            alike = sum(part.stop - part.start for part in tiles[DIFFERENT_TILES:])
            _count_products(alike * weight.numel() * (1 + sum(map(bool, needed[:2]))))
            ctx.of_weight_type = weight.dtype
            ctx.save_for_backward(hidden, weight, *gradients.all()[:2])
            return hidden.new_empty(len(hidden))
        of_hidden = torch.empty_like(hidden) if needed[0] else None
        of_weight = torch.empty_like(weight, dtype=torch.float32) if needed[1] else None
        pieces = torch.split(hidden, max(1, SCORE_TILE_LOGITS // len(weight)))
        for piece in pieces[:DIFFERENT_TILES]:
            logits = (piece @ weight.T).float()
            logits[: max(1, CACHED_LOGITS // len(weight))].softmax(1)
            logits = logits.to(hidden.dtype)
            if of_hidden is not None:
                logits @ weight
            if of_weight is not None:
                logits.T @ piece
            del logits
        alike = sum(map(len, pieces[DIFFERENT_TILES:]))
        _count_products(alike * weight.numel() * (1 + sum(map(bool, needed[:2]))))
        ctx.of_weight_type = weight.dtype
        ctx.save_for_backward(hidden, weight, of_hidden, of_weight)
        return hidden.new_empty(len(hidden), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that were taken."""
        *_, of_hidden, of_weight = ctx.saved_tensors
        return of_hidden, None if of_weight is None else of_weight.to(ctx.of_weight_type)
