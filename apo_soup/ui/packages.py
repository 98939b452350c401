"""Whether the packages of the extra `ui` are installed. None of them is imported."""

from importlib.util import find_spec

from apo_soup.errors import UserError

_UI_PACKAGES = ("starlette", "uvicorn")


def require_ui_packages() -> None:
    """Check them before anything is read.

    Raises:
        UserError: one is not there.
    """
    missing = [name for name in _UI_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ui: expected the packages {' and '.join(_UI_PACKAGES)} to be installed, got none of "
            f"{' and '.join(missing)}; pip install 'apo-soup[ui]'"
        )
