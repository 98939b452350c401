"""Whether the packages are installed that endpoints are asked with."""

from importlib.util import find_spec

from apo_soup.errors import UserError


def require_endpoint_packages(where: str) -> None:
    """Check them before anything is asked; `where` is `FILE:LINE: KEY` of the endpoint.

    Raises:
        UserError: one is not there.
    """
    missing = [name for name in ("openai", "tenacity") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{where}: expected an installed engine, got openai without the package {' and '.join(missing)}; pip "
            "install 'apo-soup[endpoint]'"
        )
