"""What a recipe asks to know of a row's words, as far as one row alone can say; all of it is off unless it asks."""

from dataclasses import dataclass

from apo_soup.data.contamination import EvalPrompts
from apo_soup.data.conversations.conversation import RowItem
from apo_soup.data.duplicates import Fingerprint, fingerprint
from apo_soup.data.prompt_marks import PromptMark, prompt_mark
from apo_soup.data.words import item_texts


@dataclass(frozen=True)
class Cleaner:
    """Looks at one row alone, so it runs wherever rows are encoded.

    `duplicates` is None, `exact` or `near`; `evals` has the n-grams of evaluation prompts; `prompts` is whether rows
    are held out, which is by prompt; `unrolled` is whether conversations become samples of their own.
    """

    duplicates: str | None = None
    evals: EvalPrompts | None = None
    prompts: bool = False
    unrolled: bool = False

    def fingerprint(self, item: RowItem) -> Fingerprint | None:
        """What `Duplicates` needs of a row, or None when it is not asked for."""
        return None if self.duplicates is None else fingerprint(item, self.duplicates == "near")

    def prompt(self, item: RowItem) -> PromptMark | None:
        """What a row's prompt is recognised by, or None when no rows are held out."""
        return prompt_mark(item, self.unrolled) if self.prompts else None

    def contaminated(self, item: RowItem) -> str | None:
        """Which evaluation's prompt a row shares words with, in a sentence, or None."""
        return self.evals.match(item_texts(item)) if self.evals else None
