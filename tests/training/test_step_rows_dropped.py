"""`dataloader_drop_last` with fewer rows than a batch is refused: it would save the model as it was."""

import pytest

from apo_soup.errors import UserError


@pytest.mark.parametrize("kind", ["sft", "apo"])
def test_a_batch_larger_than_the_rows_is_refused_before_the_first_step(trained, tiny_model, tmp_path, kind):
    keys = {"dataloader_drop_last": True, "per_device_train_batch_size": 30, "max_steps": -1, "num_train_epochs": 1}
    told = r"dataloader_drop_last: expected at least 30 sequences or pairs, a batch on each of all .*, got (12|24), "
    with pytest.raises(UserError, match=told):
        trained(kind, tiny_model, **keys, packing=False if kind == "sft" else None)
    assert not list(tmp_path.glob("run/*/model.safetensors"))
