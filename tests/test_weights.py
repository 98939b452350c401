"""Safetensors headers and hashes without torch."""

import pytest
import torch
from safetensors.torch import save_file

from apo_soup.errors import UserError


def test_a_hash_says_in_the_same_read_whether_all_values_are_finite(tmp_path):
    import hashlib

    from apo_soup.runs.model_files import file_record, first_non_finite
    from apo_soup.weights import hash_weights

    file = tmp_path / "model.safetensors"
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tensors = {"a": torch.ones(3, dtype=torch.int64), "b": torch.ones(400_001, dtype=dtype), "c": torch.ones(5)}
        save_file(tensors, file)
        assert hash_weights(file) == (hashlib.sha256(file.read_bytes()).hexdigest(), None)
        tensors["b"][400_000] = float("-inf")
        save_file(tensors, file)
        assert hash_weights(file) == (hashlib.sha256(file.read_bytes()).hexdigest(), "b")
    assert file_record(file)["finite"] is False
    assert first_non_finite(tmp_path) == (file, "b")


def test_a_single_number_is_a_tensor_too(tmp_path):
    """The scale of an activation, say, or the value that a mask has where nothing is seen."""
    from apo_soup.weights import hash_weights, read_header

    file = tmp_path / "model.safetensors"
    save_file({"scale": torch.tensor(2.0), "weight": torch.ones(3)}, file)
    assert {name: entry.shape for name, entry in read_header(file, "").items()} == {"scale": (), "weight": (3,)}
    save_file({"scale": torch.tensor(float("nan")), "weight": torch.ones(3)}, file)
    assert hash_weights(file)[1] == "scale"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "got 0 bytes that end inside the header"),
        ((100).to_bytes(8, "little") + b"{}", "got 10 bytes that end inside the header"),
        ((2).to_bytes(8, "little") + b"[]", "expected a safetensors header"),
        *(
            (len(header).to_bytes(8, "little") + header + b"12345678", "expected a safetensors header")
            for header in (
                b'{"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
                b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}',
                b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
                b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": "08"}}',
                b"[" * 10**5,
            )
        ),
        (
            (61).to_bytes(8, "little") + b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}' + b"1234",
            "expected 77 bytes, got 73: the file is cut off",
        ),
    ],
)
def test_a_file_that_is_not_whole_has_a_hash_and_no_header(tmp_path, content, told):
    import hashlib

    from apo_soup.weights import hash_weights, read_header

    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert hash_weights(file) == (hashlib.sha256(content).hexdigest(), None)
    with pytest.raises(UserError, match=f"here: {file}: .*{told}"):
        read_header(file, "here")
