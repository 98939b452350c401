"""What to turn where a training does not fit its device."""

from types import SimpleNamespace

import pytest

from apo_soup.plan.fitting import most_that_share
from apo_soup.plan.launch import Processes


@pytest.mark.parametrize(
    ("launch", "shared", "size"),
    [
        (Processes(8, "fsdp", on_cpu=False), 1, 4),
        (Processes(6, "ddp", on_cpu=False), 1, 2),
        (Processes(8, "zero2", on_cpu=False), 1, 1),
        (Processes(8, "fsdp", on_cpu=True), 1, 1),
        (Processes(1, "none", on_cpu=False), 1, 1),
        (Processes(8, "fsdp", on_cpu=False), 2, 1),
    ],
)
def test_as_many_processes_may_share_a_row_as_divide_launch_and_heads(launch, shared, size):
    text = SimpleNamespace(num_attention_heads=16, num_key_value_heads=4)
    setting = SimpleNamespace(
        recipe=SimpleNamespace(sequence_parallel_size=shared),
        launch=launch,
        config=SimpleNamespace(get_text_config=lambda: text),
    )
    assert most_that_share(setting) == size
