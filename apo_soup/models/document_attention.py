"""Attention of packed documents with torch's own kernels: every document by itself, whatever lies beside it.

Under SDPA transformers keeps documents of a row apart by a mask of `[S, S]` booleans, and SDPA computes what it
hides. Here a row is cut at the documents' ends and each piece is attended to alone, as FlashAttention does with its
boundaries: no mask, and the square of each document's length in place of the square of the row's.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# Under this name a model's attention implementation is set.
DOCUMENTS = "sdpa_of_documents"


def document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    document_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention `[1, S, heads, D]` of queries, keys and values `[1, heads, S, D]`, within each document.

    Args:
        module: the layer's attention.
        query: one row.
        key: it may have fewer heads.
        value: as `key`.
        attention_mask: where there are documents, what the model was called with, or None.
        document_lengths: of the row's documents, S in all; without them, this is transformers' SDPA.
        **options: what the model gives to its attention.

    Raises:
        ValueError: a layer made a mask of its own, which no document would be attended to with.
    """
    if document_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    check_no_own_mask(attention_mask)
    dtype = query.dtype
    # One cut for all documents: its gradient is put together once.
    queries, keys, values = (torch.split(kernel_dtype(tensor), document_lengths, 2) for tensor in (query, key, value))
    pieces = zip(queries, keys, values, strict=True)
    return torch.cat([attended(module, *piece, None, **options) for piece in pieces], 1).to(dtype), None


def attended(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> Tensor:
    """Attention `[1, Q, heads, D]` as transformers' SDPA has it, on a CPU in the type of its arguments whatever
    autocast says. On a GPU autocast holds, for the norms of some models leave queries and values of two types.

    Args:
        module: the layer's attention.
        query: `[1, heads, Q, D]`.
        key: `[1, heads, K, D]`, which may have fewer heads.
        value: as `key`.
        mask: what each query sees, booleans `[1, 1, Q, K]`, or None for what lies before it.
        **options: what the model gives to its attention.
    """
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query, key, value, mask, **options)[0]


def kernel_dtype(tensor: Tensor) -> Tensor:
    """A tensor, such as queries `[1, heads, S, D]`, in the type that torch's attention is quickest in: on a CPU
    float32, for documents of a few hundred positions in half the time of bfloat16.
    """
    return tensor.float() if tensor.device.type == "cpu" else tensor


def stand_in_mask(device: torch.device | str) -> Tensor:
    """The mask `[1, 1, 1, 1]` that such a model is called with, which keeps it from making one."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def check_no_own_mask(attention_mask: Tensor | None) -> None:
    """Check that what reaches an attention is the `[1, 1, 1, 1]` of `stand_in_mask`, or nothing.

    Raises:
        ValueError: a layer made another mask, such as one with a learnt bias, or one that selects keys.
    """
    if attention_mask is not None and attention_mask.shape != (1, 1, 1, 1):
        raise ValueError(f"expected no mask in its layers, got one of {list(attention_mask.shape)}")


def attend_by_documents(model: Any) -> None:
    """Let a model take `document_lengths`, a list of whole numbers, beside one row `[1, S]` and `stand_in_mask` as its
    `attention_mask`. Without them it attends as under SDPA.

    Args:
        model: a model of transformers' that runs with SDPA.
    """
    AttentionInterface.register(DOCUMENTS, document_attention)
    AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)
    model.set_attn_implementation(DOCUMENTS)
