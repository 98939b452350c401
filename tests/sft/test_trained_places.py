"""What the loss of packed rows comes from, alone, against stock TRL: losses, gradients, weights and what is logged."""

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from helpers import TINY_SHAPE
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from apo_soup.data.documents import SEQUENCE_COLUMNS
from apo_soup.data.trained_ranges import labels_of
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.private import attention_implementation
from sft.packed_batch import PackedCollator
from sft.train import PackedSFTTrainer
from sft.trained_places import add_trained_places, document_row
from sft.which_path import use_trained_places

VOCABULARY = 300
CLOSE = {"rtol": 1e-4, "atol": 1e-6}
# Architectures by what is peculiar to their heads and attention: name of the class, keys of its configuration.
KINDS = {
    "tied": ("SmolLM3", {"tie_word_embeddings": True}),
    "untied": ("Llama", {"tie_word_embeddings": False}),
    "query norms": ("Qwen3", {"tie_word_embeddings": True}),
    "divided logits": ("Granite", {"logits_scaling": 3.0}),
    "multiplied logits": ("Cohere", {"logit_scale": 0.25}),
    "biased head": ("Phi", {}),
    "capped logits, eager": ("Gemma2", {"final_logit_softcapping": 2.0, "attn_implementation": "eager"}),
    "capped logits": ("Gemma3", {"final_logit_softcapping": 2.0, "sliding_window": 512}),
}


def model_of(kind):
    """A random model, small enough for a test."""
    name, more = KINDS[kind]
    config_name = {"Gemma3": "Gemma3TextConfig"}.get(name, f"{name}Config")
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    head = {} if name in ("Phi", "Cohere") else {"head_dim": 8}
    attention = more.get("attn_implementation", "sdpa")
    given = TINY_SHAPE | {"vocab_size": VOCABULARY, "initializer_range": 0.2} | ids | head | more
    config = getattr(transformers, config_name)(**given)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def packed_row(documents, seed):
    """A row of documents, each a length and the place of its first trained token, up to its end or a given place."""
    lengths = np.array([length for length, *_ in documents], dtype=np.int32)
    starts = lengths.cumsum() - lengths
    ranges = [
        place
        for start, (length, first, *last) in zip(starts, documents, strict=True)
        if first < length
        for place in (start + first, start + (last[0] if last else length))
    ]
    ids = np.random.default_rng(seed).integers(5, VOCABULARY, lengths.sum()).astype(np.int32)
    return dict(zip(SEQUENCE_COLUMNS, (ids, np.array(ranges, dtype=np.int32), lengths), strict=True))


def documents_of(rows):
    """Each document as a row of its own."""
    alone = []
    for row in rows:
        labels, end = labels_of(row["input_ids"], row["trained_ranges"]), 0
        for length in row["seq_lengths"]:
            start, end = end, end + length
            places = np.flatnonzero(labels[start:end] >= 0)
            ranges = [places[0], places[-1] + 1] if len(places) else []
            values = (row["input_ids"][start:end], np.array(ranges, dtype=np.int32), np.array([length], dtype=np.int32))
            alone.append(dict(zip(SEQUENCE_COLUMNS, values, strict=True)))
    return alone


# One that fills its row, one with padding, a document without a loss, and one that is not trained to its end.
ROWS = [packed_row([(20, 5), (9, 9), (14, 3)], 0), packed_row([(11, 4, 8), (1, 1), (18, 1)], 1)]


def loss_and_gradients(model, batch):
    """The summed loss of a batch `[]`, and the gradients by name."""
    model.zero_grad()
    out = model(**batch, use_cache=False, fused_lm_head=True)
    loss = -out.log_probs.sum() / 17
    loss.backward()
    figures = torch.stack([loss, out.entropy.sum(), out.is_top1.sum(), out.label_mask.sum()]).detach()
    return figures, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_stock_trl_packed_and_unpacked(kind):
    model = model_of(kind).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    packed, alone = PackedCollator(0)(ROWS), PackedCollator(0)(documents_of(ROWS))
    stock = [loss_and_gradients(model, batch) for batch in (packed, alone)]
    by_documents = attention_implementation(model.config) == "sdpa"
    if by_documents:
        attend_by_documents(model)
    add_trained_places(model, tiles=True)
    for batch, others in ((packed, stock), (alone, stock)):
        figures, gradients = loss_and_gradients(model, batch)
        for their_figures, their_gradients in others:
            torch.testing.assert_close(figures, their_figures, rtol=1e-5, atol=1e-5)
            assert gradients.keys() == their_gradients.keys()
            for name, gradient in gradients.items():
                torch.testing.assert_close(gradient, their_gradients[name], rtol=1e-3, atol=2e-6, msg=name)
    assert figures[3] == 15 + 11 + 4 + 17


def test_only_what_the_loss_comes_from_is_computed():
    """No padding, no document without a loss, nothing behind the last place that predicts a trained token."""
    batch = PackedCollator(0)(ROWS)
    row = document_row(batch["input_ids"], batch["position_ids"], batch["labels"])
    assert row.lengths == [19, 13, 7, 17]
    first, second = (row["input_ids"].tolist() for row in ROWS)
    assert row.input_ids[0].tolist() == first[:19] + first[29:42] + second[:7] + second[12:29]
    assert row.position_ids[0].tolist() == [*range(19), *range(13), *range(7), *range(17)]
    assert row.predicting.tolist() == [*range(4, 19), *range(21, 32), *range(35, 39), *range(39, 56)]
    assert row.targets.tolist() == first[5:20] + first[32:43] + second[4:8] + second[13:30]


def seen_of(model):
    """What the layers of a model are called with from now on, as shapes."""
    shapes = []
    model.base_model.register_forward_pre_hook(
        lambda _, given, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def test_a_batch_without_a_loss_a_mask_or_other_inputs_are_left_to_trl():
    model = model_of("tied").train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    attend_by_documents(model)
    batch = PackedCollator(0)(ROWS)
    expected = model(**batch, use_cache=False).logits
    add_trained_places(model, tiles=True)
    shapes = seen_of(model)
    torch.testing.assert_close(model(**batch, use_cache=False).logits, expected)
    nothing = batch | {"labels": torch.full_like(batch["labels"], -100)}
    assert model(**nothing, use_cache=False, fused_lm_head=True).log_probs.sum() == 0
    plain = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
    model(**plain, attention_mask=torch.ones_like(batch["input_ids"]), use_cache=False, fused_lm_head=True)
    assert shapes == [(2, 43)] * 3
    assert model(**batch, use_cache=False, fused_lm_head=True).log_probs.shape == (47,)
    assert shapes[3:] == [(1, 56)]


def trained(trainer_class, folder, rows, given, **keys):
    """What a training in this process logs, and the weights behind it."""
    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, per_device_train_batch_size=3, gradient_accumulation_steps=2,
        max_steps=3, learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", report_to="none", save_strategy="no",
        logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False, remove_unused_columns=False, max_length=64,
        dataset_kwargs={"skip_prepare_dataset": True}, **{"gradient_checkpointing": False} | keys,
    )  # fmt: skip
    ours = trainer_class is PackedSFTTrainer
    if ours:
        data = Dataset.from_list(rows).with_format("numpy", dtype=np.int32)
        given = given | {"data_collator": PackedCollator(0)}
    else:
        labelled = [
            {"input_ids": r["input_ids"].tolist(), "labels": labels_of(r["input_ids"], r["trained_ranges"]).tolist()}
            for r in rows
        ]
        data = Dataset.from_list(labelled)
    trainer = trainer_class(args=arguments, train_dataset=data, eval_dataset=data, **given)
    if ours:
        trainer.count_from(None)
        assert use_trained_places(trainer) == []
        model = trainer.accelerator.unwrap_model(trainer.model)
        assert attention_implementation(model.config) == DOCUMENTS
    trainer.train()
    trainer.evaluate()
    return trainer.state.log_history, {name: p.detach() for name, p in trainer.model.named_parameters()}


LORA = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM", "lora_dropout": 0.0}


@pytest.mark.parametrize(
    ("kind", "lora", "keys"),
    [
        ("tied", None, {}),
        ("untied", LORA | {"modules_to_save": ["lm_head"]}, {}),
        ("untied", LORA, {"gradient_checkpointing": True}),
        ("divided logits", None, {"gradient_checkpointing": True, "average_tokens_across_devices": False}),
    ],
)
def test_trained_weights_and_all_that_is_logged_are_those_of_stock_trl(tmp_path, tokenizer, kind, lora, keys):
    """Over steps of two micro-batches each, padded there and packed nowhere, and an evaluation behind them."""
    rows = documents_of([packed_row([(20, 5), (9, 2), (14, 3), (30, 20)], seed) for seed in range(5)])
    logs, weights = [], []
    for trainer_class in (SFTTrainer, PackedSFTTrainer):
        given = {"model": model_of(kind), "processing_class": tokenizer}
        if lora:
            given["peft_config"] = LoraConfig(**lora)
        log, after = trained(trainer_class, tmp_path / trainer_class.__name__, rows, given, **keys)
        logs.append(log)
        weights.append(after)
    logged = ("loss", "entropy", "mean_token_accuracy", "grad_norm")
    names = [*[logged] * 3, (), [f"eval_{name}" for name in logged[:3]]]
    for theirs, ours, of_entry in zip(*logs, names, strict=True):
        for name in of_entry:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-4), name
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_a_mask_of_a_layers_own_is_refused_and_not_dropped():
    model = model_of("untied")
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    attend_by_documents(model)
    add_trained_places(model, tiles=True)

    def biased(_, given, named):
        width = named["hidden_states"].shape[1]
        return given, named | {"attention_mask": torch.zeros(1, 1, width, width)}

    model.model.layers[1].self_attn.register_forward_pre_hook(biased, with_kwargs=True)
    with pytest.raises(ValueError, match=r"expected no mask in its layers, got one of \[1, 1, 56, 56\]"):
        model(**PackedCollator(0)(ROWS), use_cache=False, fused_lm_head=True)
