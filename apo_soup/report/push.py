"""Send a run's model and report to the Hub: `apo-soup push RECIPE_DIR [--repo OWNER/NAME]`.

Without a repository and a token nothing is sent; what would be is listed. The token is the one of `hf auth login` or of
the environment (HF_TOKEN), and is written nowhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apo_soup.errors import UserError, first_line
from apo_soup.runs.card import card_on_hub
from apo_soup.runs.manifest import read_manifest

# Files of a stage folder that stay on this machine.
_LOCAL_FILES = ("manifest.json", "training_args.bin", "trainer_state.json")


@dataclass(frozen=True)
class Parcel:
    """Files to send, by their path in the repository."""

    files: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values())

    def listing(self) -> str:
        """A line a file, and the sum."""
        lines = [f"  {path}  {file.stat().st_size:,} bytes" for path, file in self.files.items()]
        return "\n".join([*lines, f"  together {self.size:,} bytes"])


def parcel_of(run: Path, name: str) -> Parcel:
    """The model folder `name` of a run, and the report beside it.

    Raises:
        UserError: the folder is not there, or not whole.
    """
    folder = run / name
    if read_manifest(folder) is None:
        raise UserError(f"{folder}: expected a whole model folder, got none; run the stage that makes it first")
    files = {
        str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in _LOCAL_FILES
    }
    report = run / "report.html"
    return Parcel(files | ({"report.html": report} if report.is_file() else {}))


def push_model(run: Path, name: str, repository: str | None, private: bool) -> int:
    """Send the parcel where a repository and a token are there; otherwise say what would be sent. Returns 0.

    Raises:
        UserError: the Hub refuses, in its words.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    parcel = parcel_of(run, name)
    if repository is None or get_token() is None:
        needed = (("--repo OWNER/NAME", repository), ("a token (hf auth login)", get_token()))
        missing = [what for what, there in needed if not there]
        print(f"{run / name} would be sent{f' to {repository}' if repository else ''}:\n{parcel.listing()}")
        print(f"nothing was sent; give {' and '.join(missing)}")
        return 0
    api = HfApi()
    with _hub_refusals(repository):
        repo_id = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
    content: dict[str, str | bytes] = {path: str(file) for path, file in parcel.files.items()}
    if "README.md" in content:
        content["README.md"] = card_on_hub(run / name, repo_id).encode()
    operations = [CommitOperationAdd(path, what) for path, what in content.items()]
    with _hub_refusals(repository):
        commit = api.create_commit(repo_id, operations, commit_message=f"{name} of {run.name}, by apo-soup")
    print(f"{len(parcel.files)} files, {parcel.size:,} bytes, sent to {repo_id} (commit {commit.oid[:12]})")
    return 0


@contextmanager
def _hub_refusals(repository: str) -> Iterator[None]:
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repository}: expected a repository that may be written to, got a refusal: {first_line(error)}; correct "
            "--repo, or log in with `hf auth login`"
        ) from error
