"""Which release of this program it is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed version; ``0`` where a source tree runs that is not installed."""
    try:
        return version("rs-embed-serve")
    except PackageNotFoundError:
        return "0"
