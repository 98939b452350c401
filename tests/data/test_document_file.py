"""Documents come back as they were appended."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.document_file import DocumentFile

LENGTHS = st.lists(st.integers(1, 64), max_size=80)


@settings(max_examples=40)
@given(LENGTHS, st.integers(1, 9))
def test_documents_come_back_as_they_were_appended(tmp_path_factory, lengths, seed):
    generator = np.random.default_rng(seed)
    documents = [[generator.integers(0, 2**31 - 1, n) for n in (length, length // 2)] for length in lengths]
    file = DocumentFile(tmp_path_factory.mktemp("documents") / "documents.bin", 2)
    assert [file.append(parts) for parts in documents] == list(range(len(documents)))
    file.flush()
    for number in reversed(range(len(documents))):
        for part, expected in zip(file.read(number), documents[number], strict=True):
            assert part.tolist() == expected.tolist()
    if documents:
        numbers = [*reversed(range(len(documents))), 0]
        whole, sizes = file.read_many(numbers)
        assert whole.tolist() == [token for n in numbers for part in documents[n] for token in part]
        assert sizes.tolist() == [[len(part) for part in documents[n]] for n in numbers]
    file.close()
