"""Send a run's model and report to the Hub: `apo-soup push RECIPE_DIR [--repo OWNER/NAME]`.

Without a repository and a token nothing is sent; what would be is listed. The token is the one of `hf auth login` or of
the environment (HF_TOKEN), and is written nowhere. What is sent of each file: `apo_soup/runs/sent_files.py`.
"""

from pathlib import Path

from apo_soup.runs.hub_refusals import told_by_hub
from apo_soup.runs.sent_files import commit_operations, parcel_of, sent_content


def push_model(run: Path, name: str, repository: str | None, private: bool) -> int:
    """Send the parcel where a repository and a token are there; otherwise say what would be sent. Returns 0.

    Raises:
        UserError: a file may not be sent, told before anything is; or the Hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    report = run / "report.html"
    parcel = parcel_of(run, name, {"report.html": report} if report.is_file() else {})
    content = sent_content(parcel, run, name)
    if repository is None or get_token() is None:
        needed = (("--repo OWNER/NAME", repository), ("a token (hf auth login)", get_token()))
        missing = [what for what, there in needed if not there]
        print(f"{run / name} would be sent{f' to {repository}' if repository else ''}:\n{parcel.listing()}")
        print(f"nothing was sent; give {' and '.join(missing)}")
        return 0
    api = HfApi()
    with told_by_hub("--repo", repository):
        repo_id = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
    operations = commit_operations(content, repo_id)
    with told_by_hub("--repo", repository):
        commit = api.create_commit(repo_id, operations, commit_message=f"{name} of {run.name}, by apo-soup")
    print(f"{len(content)} files, {parcel.size:,} bytes, sent to {repo_id} (commit {commit.oid[:12]})")
    return 0
