"""What the prompts of rows are recognised by: rows with the same prompt, and prompts that are nearly the same."""

import hashlib
import json
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apo_soup.data.conversations.conversation import Conversation, PlainText, RowItem
from apo_soup.data.sources.rows import Fields
from apo_soup.data.words import words

# Prompts are compared by their runs of three words. Of these the smallest hashes are kept (a bottom-k sketch, Cohen and
# Kaplan 2007), of a long prompt those of its two ends.
RUN, SKETCH, LONGEST = 3, 32, 8000
NO_HASH = np.uint32(0xFFFFFFFF)
FACTORS = np.array([2654435761, 2246822519, 3266489917], dtype=np.uint32)  # odd, of Knuth and of xxHash
ROWS_A_BLOCK = 2**14
# What stands between words; signs do not, for in sums a sign makes another question.
BETWEEN = str.maketrans(dict.fromkeys("!\"#$&'(),.:;?@[\\]_`{|}~", " "))
FLAG_WORDS = re.compile(r"/(?:no_think|think|system_override)\b")


@dataclass(frozen=True)
class PromptMark:
    """What a prompt is recognised by: a number that rows of the same prompt share, and a sketch of its runs of words,
    `[32]` hashes in order, the last ones empty where there are fewer.
    """

    group: int
    sketch: np.ndarray


def prompt_mark(item: RowItem, unrolled: bool = False) -> PromptMark:
    """The mark of a row's prompt: of a pair its prompt, without regard to the mode; of a conversation its mode and all
    turns but the assistant's, so that several answers to the same questions are one group; of a plain text all of it.
    Upper case and white space make no difference.

    Args:
        unrolled: whether a conversation's first answer is a sample of its own, whose prompt is all before it: rows that
            begin with the same one are one group then.
    """
    if isinstance(item, PlainText):
        mode, texts = "", [item.text]
    elif isinstance(item, Conversation):
        turns = _before_an_answer(item.messages) if unrolled else item.messages
        mode, texts = item.mode, [_turn_text(m) for m in turns if m["role"] != "assistant"]
    else:
        mode, texts = "", [FLAG_WORDS.sub("", _turn_text(m)) for m in item.prompt]
    plain = [" ".join(text.split()).casefold() for text in texts]
    digest = hashlib.blake2b("\0".join([mode, *filter(None, plain)]).encode(errors="surrogatepass"), digest_size=8)
    return PromptMark(int.from_bytes(digest.digest(), "little", signed=True), _sketch(" ".join(plain)))


def _before_an_answer(messages: list[Fields]) -> list[Fields]:
    """The turns up to the first answer to a user; all, where there is none."""
    for place in range(1, len(messages)):
        if messages[place]["role"] == "assistant" and any(m["role"] == "user" for m in messages[:place]):
            return messages[:place]
    return messages


def _turn_text(message: Fields) -> str:
    calls = [call["function"] for call in message.get("tool_calls") or []]
    said = json.dumps(calls, sort_keys=True, default=str) if calls else ""
    return f"{message.get('reasoning_content') or ''} {message.get('content') or ''} {said}"


def _sketch(text: str) -> np.ndarray:
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + " " + text[-LONGEST // 2 :]
    found = text.translate(BETWEEN).split() if text.isascii() else words(text)
    codes = np.fromiter((zlib.crc32(word.encode()) for word in found), dtype=np.uint32, count=len(found))
    # One number for a run, of the numbers of its words; the order of the words decides it too.
    if len(codes) >= RUN:
        codes = codes[:-2] * FACTORS[0] + codes[1:-1] * FACTORS[1] + codes[2:] * FACTORS[2]
    else:
        codes = codes.sum(keepdims=True, dtype=np.uint32)
    codes.sort()
    smallest = codes[np.append(True, codes[1:] != codes[:-1])][:SKETCH]
    sketch = np.full(SKETCH, NO_HASH)
    sketch[: len(smallest)] = smallest
    return sketch


class PromptMarks:
    """The marks of kept rows: groups in memory, 8 bytes each, and sketches in a file in `folder`."""

    def __init__(self, folder: Path):
        self.groups = array("q")
        self._path = folder / "prompts.bin"
        self._file = self._path.open("w+b")

    def append(self, groups: np.ndarray, sketches: np.ndarray) -> None:
        """Keep the marks of rows: their groups `[N]` and sketches `[N, 32]`."""
        self.groups.frombytes(groups.astype(np.int64, copy=False).tobytes())
        self._file.write(sketches.astype(np.uint32, copy=False).data)

    def sketches(self, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """The sketches of some rows in blocks of `[N, 32]`, in the order of all rows."""
        self._file.flush()
        asked = np.zeros(len(self.groups), dtype=bool)
        asked[list(rows)] = True
        for start in range(0, len(asked), ROWS_A_BLOCK):
            offset = start * SKETCH * NO_HASH.itemsize
            block = np.fromfile(self._path, np.uint32, ROWS_A_BLOCK * SKETCH, offset=offset).reshape(-1, SKETCH)
            yield block[asked[start : start + len(block)]]

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink()
