"""What to turn where a training does not fit its device."""

from types import SimpleNamespace

import pytest

from apo_soup.config.load import load
from apo_soup.plan.fitting import most_that_share
from apo_soup.plan.launch import Processes

FILE = "output_dir: runs/x\nmodel_name_or_path: m/m\ndataset_mixture: {datasets: [{id: owner/rows}]}\n"
HEADS = {"num_attention_heads": 16, "num_key_value_heads": 4, "_attn_implementation": None}
EIGHT = Processes(8, "fsdp", on_cpu=False)


def setting(tmp_path, launch, text="", **config):
    path = tmp_path / "sft.yaml"
    path.write_text(FILE + text)
    language = SimpleNamespace(**HEADS | config)
    return SimpleNamespace(
        recipe=load(path, "sft"), launch=launch, config=SimpleNamespace(get_text_config=lambda: language)
    )


@pytest.mark.parametrize(
    ("launch", "shared", "size"),
    [
        (EIGHT, 1, 4),
        (Processes(6, "ddp", on_cpu=False), 1, 2),
        (Processes(8, "zero2", on_cpu=False), 1, 1),
        (Processes(8, "fsdp", on_cpu=True), 1, 1),
        (Processes(1, "none", on_cpu=False), 1, 1),
        (EIGHT, 2, 1),
    ],
)
def test_as_many_processes_may_share_a_row_as_divide_launch_and_heads(launch, shared, size, tmp_path):
    assert most_that_share(setting(tmp_path, launch, f"sequence_parallel_size: {shared}\n")) == size


@pytest.mark.parametrize(
    ("text", "config", "size"),
    [
        ("use_liger_kernel: true\n", {}, 1),
        ("loss_type: dft\n", {}, 1),
        ("attn_implementation: eager\n", {}, 1),
        ("attn_implementation: flex_attention\n", {}, 1),
        ("", {"layer_types": ["conv", "full_attention"]}, 1),
        ("max_length: 64\n", {"sliding_window": 63}, 1),
        ("max_length: 64\n", {"sliding_window": 64}, 4),
        ("max_length: 64\nattn_implementation: flash_attention_2\n", {"sliding_window": 63}, 4),
        ("max_length: 64\nmodel_init_kwargs:\n  sliding_window: 64\n", {"sliding_window": 63}, 4),
        ("max_length: 64\n", {"sliding_window": 63, "_attn_implementation": "flash_attention_2"}, 4),
    ],
)
def test_no_rows_are_shared_beside_what_a_run_would_refuse(text, config, size, tmp_path):
    assert most_that_share(setting(tmp_path, EIGHT, text, **config)) == size
