"""Rows as the model will see them, as one page that stands alone: `apo-soup preview --config FILE --html PAGE`.

No script and no request; light, dark and narrow screens. What is trained draws the eye, all else is quiet. Of a source
that lies on this machine the page names the file, and not where it lies.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.preview import mixture_lines
from apo_soup.data.shown_rows import shown_mixture
from apo_soup.data.sources.rows import row_number
from apo_soup.errors import UserError, told_by_disk
from apo_soup.pages.render import rendered
from apo_soup.progress import tell
from apo_soup.runs.durable import write_whole
from apo_soup.runs.machine_paths import short_path, without_paths

# By this a page is known for one of ours, which may be written again.
_GENERATOR = "apo-soup preview"
# Bytes of a file that hold it.
_HEAD = 1000


def write_preview_page(
    file: Path, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, count: int, without: Collection[int] = ()
) -> None:
    """Write the first `count` drawn rows of each source but those of the numbers `without` as a page.

    Raises:
        UserError: a source has no row or cannot be read; or another file than an earlier page lies there.
    """
    require_own_page(file)
    sources = list(shown_mixture(recipe, tokenizer, count, without))
    sampled = [replace(source.sampled, name=short_path(source.sampled.name)) for source in sources]
    page = rendered(
        "preview.html.jinja",
        short_source=short_path,
        short_note=without_paths,
        row_number=row_number,
        title=f"{recipe.path.parent.name}/{recipe.path.name}",
        generator=_GENERATOR,
        sources=sources,
        mixture=mixture_lines(sampled),
    )
    with told_by_disk("--html", file):
        write_whole(file, page)
    tell(f"{file}: {sum(len(source.rows) for source in sources)} rows of {len(sources)} sources")


def require_own_page(file: Path) -> None:
    """Refuse a place that is taken by anything but an earlier page.

    Raises:
        UserError: it is, it cannot be read, or there is no folder for it.
    """
    if not file.parent.is_dir():
        raise UserError(f"--html: expected a file in a folder, got {file} without one; make {file.parent} first")
    if file.is_dir():
        raise UserError(f"--html: expected a file, got the folder {file}; name a file in it")
    if file.exists() and not _is_earlier_page(file):
        raise UserError(f"--html: expected a new file or an earlier preview, got {file}; name another one")


def _is_earlier_page(file: Path) -> bool:
    if not file.is_file():  # a pipe would be waited for
        return False
    with told_by_disk("--html", file), file.open("rb") as opened:
        return _GENERATOR.encode() in opened.read(_HEAD)
