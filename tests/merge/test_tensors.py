"""Reading and writing safetensors folders in pieces."""

import pytest
import torch
from helpers import state_dict

from apo_soup.errors import UserError
from apo_soup.hashing import hash_file


def test_shards_are_written_and_read(tmp_path, monkeypatch):
    """A folder of several files loads as transformers and safetensors know it."""
    from merge import tensors, writer

    monkeypatch.setattr(writer, "MAX_FILE_BYTES", 4000)
    values = {f"t{n}": torch.randn(30 + n, 10) for n in range(7)}
    written = writer.SafetensorsWriter(tmp_path, {n: tuple(v.shape) for n, v in values.items()}, torch.float32)
    for name, tensor in values.items():
        written.write(name, tensor.flatten()[:50])
        written.write(name, tensor.flatten()[50:])
    hashes = written.close()
    assert hashes == {file.name: hash_file(file) for file in tmp_path.glob("*.safetensors")}
    assert len(hashes) > 1
    stored = tensors.stored_tensors(tmp_path, "here")
    assert {n: s.shape for n, s in stored.items()} == {n: tuple(v.shape) for n, v in values.items()}
    for name, tensor in state_dict(tmp_path).items():
        assert torch.equal(tensor, values[name])
        assert torch.equal(stored[name].read(20, 100), values[name].flatten()[20:120])


@pytest.mark.parametrize(
    "header", ["[]", '{"x": {}}', '{"x": "y"}', '{"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}']
)
def test_a_header_that_makes_no_sense_is_told(tmp_path, header):
    from merge.tensors import stored_tensors

    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(64))
    with pytest.raises(UserError, match=r"expected a safetensors header|expected 36 bytes for shape \[9\], got 8"):
        stored_tensors(tmp_path, "here")
