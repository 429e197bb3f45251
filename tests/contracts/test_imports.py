"""Listing, describing and calling models is instant: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("torch", "ray", "xarray", "pandas", "timm", "open_clip", "rasterio", "ee")
_MODELS = (
    "from rs_embed_core.registry import describe_model, list_models\nfor model in list_models(): describe_model(model)"
)
_COMMAND = "import sys; from serve_app.cli import main; sys.argv = {}; code = main(sys.argv[1:]); assert code == 0"


@pytest.mark.parametrize(
    "statement",
    [
        "import rs_embed_core",
        "import serve_app.client",
        "from rs_embed_core import BBox, OutputSpec, PointBuffer, TemporalSpec",
        _MODELS,
        _COMMAND.format(["rs-embed", "models"]),
        _COMMAND.format(["rs-embed", "models", "dofa", "--json"]),
        "import serve_app.cli; serve_app.cli.build_parser().format_help()",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    program = f"{statement}\nimport sys\nfound = [name for name in {_HEAVY!r} if name in sys.modules]\n"
    program += "sys.exit(f'loaded {found}' if found else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_loads_no_numpy_either() -> None:
    program = "import serve_app.cli, sys; serve_app.cli.build_parser(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
