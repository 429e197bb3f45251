"""``make demo``: start the service, embed 64 places over HTTP, draw one, and stop without a trace.

No account and no download: imagery is synthetic, ``mosaiks`` needs no weights, and the weights of Galileo's
smallest network lie in ``tests/golden``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil

from rs_embed_core import OutputSpec, PointBuffer, TemporalSpec
from rs_embed_core.export.geoparquet import write_geoparquet
from rs_embed_core.providers import get_provider
from rs_embed_core.quicklook import input_rgb, pca_rgb, save_png
from rs_embed_core.registry import get_card
from rs_embed_core.specs.request import Ask, EmbedRequest
from serve_app.client import EmbeddingClient
from serve_app.serving import free_port, serving
from serve_app.settings import ServiceSettings

OUT = Path("demo_output")
PROJECT = Path(__file__).resolve().parents[2]
NANO = (  # Galileo's weights, where somebody has put them
    PROJECT / "weights" / "nasaharvest" / "galileo" / "models" / "nano" / "encoder.pt",
    PROJECT.parent / "shared" / "golden" / "galileo" / "nano.safetensors",
)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
SIDE = 8  # 8 x 8 places
PLACES = [PointBuffer(7.73 + 0.02 * (i % SIDE), 47.65 - 0.014 * (i // SIDE), 320) for i in range(SIDE**2)]
SQUARE = PointBuffer(7.8, 47.6, 1250)  # woods, fields, a lake and a village
PATIENCE_S = 60


def main() -> int:
    """Run the demo; 1 where a process stayed behind."""
    started = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    with ExitStack() as stack:
        processes = stack.enter_context(no_process_left())
        weights = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rs-embed-demo-")))
        models = ["mosaiks"]
        if find_galileo(weights):
            models.append("galileo")
        with step(f"start Ray and the service with {' and '.join(models)}"):
            service = stack.enter_context(serving(settings(models, weights)))
        client = stack.enter_context(EmbeddingClient(service.url))
        up = sorted(client.ready()["models"])
        say(f"{service.url} is up: {', '.join(up)}")
        if sorted(name.partition("-")[0] for name in up) != sorted(models):
            raise RuntimeError(f"another service answers at {service.url}: run the demo again.")
        embed_many(client, models[-1])
        draw(client, models[-1])
        processes.update(psutil.Process().children(recursive=True))
        with step("stop"):
            stack.close()
    if left := [process for process in processes if process.is_running()]:
        say(f"these processes did not end: {left}")
        return 1
    say(f"done in {time.perf_counter() - started:.0f} s; nothing is left running.")
    say_what_next(models)
    return 0


def settings(models: list[str], weights: Path) -> ServiceSettings:
    """A small service on a free port of this machine."""
    return ServiceSettings.model_validate(
        {
            "models": [{"model": model} for model in models],
            "http": {"port": free_port()},
            "providers": {"default": "synthetic"},
            "checkpoints": {"root": weights, "offline": True},
        }
    )


def find_galileo(root: Path) -> bool:
    """Whether the weights of Galileo nano were found; they are put below ``root`` as they are published."""
    found = next((path for path in NANO if path.is_file()), None)
    if found is None:
        return False
    import torch  # noqa: PLC0415 - heavy, and only needed where there are weights
    from safetensors.torch import load_file  # noqa: PLC0415

    card, _ = get_card("galileo")
    published = card.variants["nano"].weights
    path = root / published.repo / published.file
    path.parent.mkdir(parents=True)
    if found.suffix == ".safetensors":
        torch.save(load_file(found), path)
    else:
        path.symlink_to(found)
    return True


def embed_many(client: EmbeddingClient, model: str) -> None:
    """64 vectors over one HTTP request, as an Arrow stream, into a GeoParquet file."""
    say(f"embed {len(PLACES)} places with {model}: POST /v1/embeddings, answered as an Arrow stream")
    started, first = time.perf_counter(), None
    results = {}
    for item in client.stream_embeddings(model, spatials=PLACES, temporal=SUMMER, progress=True):
        first = first or time.perf_counter() - started
        if item.error is not None:
            raise item.error
        results[item.index] = item.embedding
    seconds = time.perf_counter() - started
    vectors = [results[index] for index in range(len(PLACES))]
    path = write_geoparquet(OUT / "embeddings.parquet", vectors, PLACES)
    say(f"  first row after {first:.2f} s, all after {seconds:.2f} s ({len(PLACES) / seconds:.0f} ROIs/s)")
    similar = np.corrcoef([vector.data for vector in vectors])[0].argsort()[-2]
    say(f"  most like the first place: number {similar}")
    say(f"  {path}: {len(vectors)} vectors of {vectors[0].data.shape[0]} values with their polygons")


def draw(client: EmbeddingClient, model: str) -> None:
    """One place as the model sees it, beside the imagery."""
    with step(f"ask the grid of a 2.5 km square from {model} (input_prep='tile')"):
        grid = client.get_embedding(model, spatial=SQUARE, temporal=SUMMER, output=OutputSpec.grid(), input_prep="tile")
    request = EmbedRequest(Ask(model, temporal=SUMMER), SQUARE)
    imagery = input_rgb(request, get_provider("synthetic"))
    path = save_png(OUT / "quicklook.png", imagery, pca_rgb(grid.data))
    tiles = grid.meta["input_prep"].get("tile_count", 1)
    shape = " x ".join(map(str, grid.data.shape))
    say(f"  {shape} values from {tiles} tiles, {grid.meta['crs']}, each cell with its coordinates")
    say(f"  {path}: the imagery, and the first three principal components of the grid as colours")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done and how long it took."""
    started = time.perf_counter()
    say(f"{what} ...")
    yield
    say(f"  {time.perf_counter() - started:.1f} s")


@contextmanager
def no_process_left() -> Iterator[set[psutil.Process]]:
    """A set for processes that were started; on leaving, wait until they have ended."""
    started: set[psutil.Process] = set()
    yield started
    psutil.wait_procs(started, timeout=PATIENCE_S)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def say_what_next(models: list[str]) -> None:
    """What to try now."""
    server = ".venv/bin/rs-embed serve"
    say(f"""
Look at {OUT}/quicklook.png, and read {OUT}/embeddings.parquet with geopandas.

Keep a server running:   {server} --model {" --model ".join(models[:1])}
  then, in another shell
  curl                   docs/examples/curl.sh http://127.0.0.1:8000
  Python                 .venv/bin/python docs/examples/first_call.py http://127.0.0.1:8000
  command line           .venv/bin/rs-embed quicklook mosaiks --point 8.54 47.37 1250 --out place.png
A real model:            {server} --model remoteclip   (fetches its weights from the Hugging Face Hub)
Real imagery
  Earth Engine           {server} --provider gee --project YOUR-PROJECT   (docs/guide/earth-engine.md)
  STAC, no account       {server} --provider stac                         (docs/guide/stac.md)
  your own pixels        rs_embed_core.get_embedding_from_data
Earth Engine, made up:   .venv/bin/rs-embed dev emulator   (says how to use it)
What there is:           .venv/bin/rs-embed models ; .venv/bin/rs-embed doctor""")


if __name__ == "__main__":
    sys.exit(main())
