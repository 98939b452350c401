"""`global_batch_size` in a file: what it makes of the other keys, and what it cannot stand beside."""

import pytest

from apo_soup.config.batch import accumulation_steps, batch_problem, global_batch
from apo_soup.config.launch_file import launch_processes
from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.resources import shipped_recipes
from apo_soup.runs.arguments import deciding_arguments

FILE = """output_dir: runs/x/{kind}
model_name_or_path: m/m
dataset_mixture: {{datasets: [{{id: owner/rows}}]}}
"""


def loaded(tmp_path, text, kind="sft", words=()):
    path = tmp_path / f"{kind}.yaml"
    path.write_text(FILE.format(kind=kind) + text)
    return load(path, kind, words)


@pytest.mark.parametrize(("processes", "steps"), [(1, 64), (8, 8), (64, 1)])
def test_micro_batches_follow_from_the_processes(tmp_path, processes, steps):
    recipe = loaded(tmp_path, "global_batch_size: 128\nper_device_train_batch_size: 2\n")
    assert accumulation_steps(recipe, processes) == steps
    assert global_batch(recipe, processes) == 128
    plain = loaded(tmp_path, "gradient_accumulation_steps: 3\nper_device_train_batch_size: 2\n")
    assert accumulation_steps(plain, processes) == 3
    assert global_batch(plain, processes) == 6 * processes
    assert batch_problem(plain, processes) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("global_batch_size: 0\n", "4: global_batch_size: expected a whole number of 1 or more, got 0; "),
        ("global_batch_size: -8\n", "4: global_batch_size: expected a whole number of 1 or more, got -8; "),
        ("global_batch_size: 12.5\n", "4: global_batch_size: expected a whole number of 1 or more, got 12.5"),
        ("global_batch_size: auto\n", "4: global_batch_size: expected a whole number of 1 or more, got 'auto'; write"),
        ("global_batch_size: true\n", "4: global_batch_size: expected a whole number of 1 or more, got true"),
        ("global_batch_size: [8]\n", "4: global_batch_size: expected a whole number of 1 or more, got [8]"),
        ("global_batchsize: 8\n", "4: global_batchsize: expected a known key, got an unknown one; the nearest is glob"),
        (
            "global_batch_size: 12\n",
            "4: global_batch_size: expected a multiple of per_device_train_batch_size 8 (its default), got 12; change",
        ),
        (
            "per_device_train_batch_size: 5\nglobal_batch_size: 12\n",
            "5: global_batch_size: expected a multiple of per_device_train_batch_size 5, got 12; change one of the two",
        ),
        (
            "global_batch_size: 32\ngradient_accumulation_steps: 3\n",
            "5: gradient_accumulation_steps: expected no such key beside global_batch_size 32, from which it follows, "
            "or a number that divides 4, got 3; leave the key out",
        ),
        (
            "global_batch_size: 32\nauto_find_batch_size: true\n",
            "5: auto_find_batch_size: expected no such key beside global_batch_size, which a batch that shrinks by",
        ),
        (
            "global_batch_size: 32\naverage_tokens_across_devices: false\n",
            "5: average_tokens_across_devices: expected true with global_batch_size, whose loss is the mean over",
        ),
        (
            "global_batch_size: 32\naccelerator_config:\n  split_batches: true\n  even_batches: true\n",
            "6: accelerator_config.split_batches: expected false with global_batch_size, got true; leave it out",
        ),
        (
            "global_batch_size: 32\naccelerator_config: {use_seedable_sampler: false}\n",
            "5: accelerator_config.use_seedable_sampler: expected true with global_batch_size, got false; leave it out",
        ),
        (
            "global_batch_size: 32\naccelerator_config: {gradient_accumulation_kwargs: {num_steps: 2}}\n",
            "5: accelerator_config.gradient_accumulation_kwargs.num_steps: expected no such key beside global_batch",
        ),
        (
            "global_batch_size: 32\naccelerator_config: options.json\n",
            "5: accelerator_config: expected a mapping with global_batch_size, which some of its options would change",
        ),
    ],
)
def test_what_a_global_batch_cannot_be(tmp_path, text, told):
    with pytest.raises(UserError) as error:
        loaded(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/sft.yaml:{told}")
    assert str(error.value).count("\n") == 0


def test_processes_that_do_not_divide_the_batch_are_told_with_what_would(tmp_path):
    recipe = loaded(tmp_path, "global_batch_size: 16\nper_device_train_batch_size: 4\n")
    assert batch_problem(recipe, 4) is None
    with pytest.raises(UserError, match=r"sft.yaml:4: global_batch_size: expected a multiple of 12, which is per_devi"):
        accumulation_steps(recipe, 3)
    assert batch_problem(recipe, 3).endswith(
        "got 16; launch another number of processes, or a global batch of 12 or 24"
    )
    assert batch_problem(recipe, 8).endswith("got 16; write per_device_train_batch_size 2, or a global batch of 32")
    beside = loaded(tmp_path, "global_batch_size: 16\nper_device_train_batch_size: 4\ngradient_accumulation_steps: 2\n")
    assert batch_problem(beside, 2) is None
    assert batch_problem(beside, 4).startswith(
        f"{tmp_path}/sft.yaml:6: gradient_accumulation_steps: expected 1, which global_batch_size 16 is on 4 processes "
        "of 4 each, got 2; "
    )


def test_the_product_decides_and_not_how_it_comes_about(tmp_path):
    """But where a loss makes the pairs of a micro-batch depend on each other, its size decides too."""
    split = "global_batch_size: 16\nper_device_train_batch_size: 4\ngradient_accumulation_steps: 2\n"
    words = ["--global_batch_size", "32", "--per_device_train_batch_size", "8"]
    recipe = loaded(tmp_path, split, words=words)
    assert recipe.deciding_values().items() >= {"global_batch_size": 32}.items()
    assert not {"per_device_train_batch_size", "gradient_accumulation_steps"} & recipe.deciding_values().keys()
    assert deciding_arguments(recipe) == words[:2]
    sorting = loaded(tmp_path, split + "loss_type: [sigmoid, aot]\n", "apo", words).deciding_values()
    assert sorting["per_device_train_batch_size"] == 8
    assert "gradient_accumulation_steps" not in sorting
    old = loaded(tmp_path, "global_batch_size: null\nper_device_train_batch_size: 4\n").deciding_values()
    assert "global_batch_size" not in old
    assert old["per_device_train_batch_size"] == 4


@pytest.mark.parametrize(
    ("text", "processes"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 16\nnum_machines: 2\n", 16),
        ("distributed_type: FSDP\nuse_cpu: true\nnum_processes: 2\n", 2),
        ("distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 2\n", 1),
        ("distributed_type: MULTI_CPU\nnum_processes: 2\nmpirun_config: {mpirun_hostfile: hosts}\n", 2),
        ("distributed_type: 'NO'\nnum_processes: 8\n", 1),
        ("distributed_type: NO\n", 1),
        ("distributed_type: MPS\nnum_processes: 4\n", 1),
        ("distributed_type: MULTI_GPU\nnum_machines: 2\n", None),
        ("distributed_type: MULTI_GPU\nnum_processes: true\n", None),
        ("distributed_type: FSDP\nnum_processes: 8\nparallelism_config: {parallelism_config_cp_size: 2}\n", None),
        ("distributed_type: FSDP\nnum_processes: 8\nparallelism_config: {parallelism_config_dp_shard_size: 8}\n", 8),
        ("num_processes: 8\n", None),
    ],
)
def test_a_launch_file_tells_its_processes(tmp_path, text, processes):
    (tmp_path / "launch.yaml").write_text(text)
    assert launch_processes(tmp_path / "launch.yaml") == processes


def test_the_shipped_launch_files_tell_theirs():
    found = {file.stem: launch_processes(file) for file in (shipped_recipes() / "accelerate").glob("*.yaml")}
    assert found == {"cpu": 1, "ddp": 8, "fsdp2": 8, "zero2": 8, "zero3": 8}


@pytest.mark.parametrize(
    ("text", "processes", "steps", "batch"),
    [
        ("global_batch_size: 32\nper_device_train_batch_size: 2\nsequence_parallel_size: 4\n", 16, 4, 32),
        ("gradient_accumulation_steps: 3\nper_device_train_batch_size: 2\nsequence_parallel_size: 4\n", 16, 3, 24),
    ],
)
def test_processes_that_share_rows_take_them_as_one(tmp_path, text, processes, steps, batch):
    recipe = loaded(tmp_path, text)
    assert (accumulation_steps(recipe, processes), global_batch(recipe, processes)) == (steps, batch)


@pytest.mark.parametrize(
    ("text", "processes", "told"),
    [
        (
            "sequence_parallel_size: 4\n",
            6,
            "4: sequence_parallel_size: expected a divisor of the 6 processes of this launch (1, 2, 3, 6), got 4; "
            "launch a multiple of 4 processes, or write one of those",
        ),
        (
            "sequence_parallel_size: 2\n",
            1,
            "4: sequence_parallel_size: expected a divisor of the 1 process of this launch (1), got 2; launch a "
            "multiple of 2 processes, or write one of those",
        ),
        (
            "sequence_parallel_size: 4\nper_device_train_batch_size: 1\nglobal_batch_size: 3\n",
            8,
            "6: global_batch_size: expected a multiple of 2, which is per_device_train_batch_size 1 x 2 groups of 4 "
            "processes, got 3; launch another number of processes, or a global batch of 2 or 4",
        ),
    ],
)
def test_processes_that_cannot_share_rows_as_the_file_says_are_told(tmp_path, text, processes, told):
    recipe = loaded(tmp_path, text)
    assert batch_problem(recipe, processes) == f"{tmp_path}/sft.yaml:{told}"
    with pytest.raises(UserError):
        accumulation_steps(recipe, processes)
