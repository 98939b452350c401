"""Send a run's model and report to the Hub: `apo-soup push RECIPE_DIR [--repo OWNER/NAME]`.

Without a repository and a token nothing is sent; what would be is listed. The token is the one of `hf auth login` or of
the environment (HF_TOKEN), and is written nowhere.
"""

from dataclasses import dataclass
from pathlib import Path

from apo_soup.errors import UserError, first_line
from apo_soup.runs.card import named_card
from apo_soup.runs.stage import read_manifest

# Files of a stage folder that are this machine's business.
PRIVATE = ("manifest.json", "training_args.bin", "trainer_state.json")


@dataclass(frozen=True)
class Parcel:
    """Files to send, by their place in the repository."""

    files: dict[str, Path]

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())

    def listing(self) -> str:
        lines = [f"  {place}  {file.stat().st_size:,} bytes" for place, file in self.files.items()]
        return "\n".join([*lines, f"  together {self.size:,} bytes"])


def parcel(run: Path, name: str) -> Parcel:
    """The model folder `name` of a run, and the report beside it; raises UserError where the folder is not whole."""
    folder = run / name
    if read_manifest(folder) is None:
        raise UserError(f"{folder} is not there, or not whole; run the stage that makes it first")
    files = {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in PRIVATE}
    report = run / "report.html"
    return Parcel(files | ({"report.html": report} if report.is_file() else {}))


def push(run: Path, name: str, repository: str | None, private: bool) -> int:
    """Send the parcel where a repository and a token are there; otherwise say what would be sent. Returns 0.

    Raises:
        UserError: the Hub refuses, in its words.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError

    found = parcel(run, name)
    needed = (("--repo OWNER/NAME", repository), ("a token (hf auth login)", get_token()))
    missing = [what for what, there in needed if not there]
    if missing:
        print(f"{run / name} would be sent{f' to {repository}' if repository else ''}:\n{found.listing()}")
        print(f"nothing was sent; give {' and '.join(missing)}")
        return 0
    api = HfApi()
    try:
        made = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
        content = {place: str(file) for place, file in found.files.items()}
        if "README.md" in content:
            content["README.md"] = named_card(run / name, made).encode()
        operations = [CommitOperationAdd(place, what) for place, what in content.items()]
        commit = api.create_commit(made, operations, commit_message=f"{name} of {run.name}, by apo-soup")
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{repository}: the Hub refuses: {first_line(error)}") from error
    print(f"{len(found.files)} files, {found.size:,} bytes, sent to {made} (commit {commit.oid[:12]})")
    return 0
