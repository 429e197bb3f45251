"""The requests of the client (earth_engine.md, 3.1) and their replies, without HTTP."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from importlib.metadata import distribution
from typing import Any, Literal  # requests are JSON

from rs_embed_core.errors import JSONValue
from rs_embed_core.geo import Grid
from tests.emulator.evaluate import evaluate
from tests.emulator.functions import functions
from tests.emulator.functions.pixelwise import select_bands
from tests.emulator.images import Image
from tests.emulator.limits import Refused, check_body, check_pixels
from tests.emulator.replies import Reply, described, geotiff, in_json, npy, refusal
from tests.emulator.scenes import Catalogue

type Kind = Literal["discovery", "algorithms", "asset", "pixels", "value", "other"]

_log = logging.getLogger(__name__)
_KEPT_BYTES = 384 * 2**20
_ASSET = re.compile(r"/v1/projects/earthengine-(?:public|legacy)/assets/(.+)")


def kind_of(path: str) -> Kind:
    """Which of the client's requests a path is."""
    if path.startswith("/$discovery/"):
        return "discovery"
    if path.endswith("/algorithms"):
        return "algorithms"
    if path.endswith("image:computePixels"):
        return "pixels"
    if path.endswith("value:compute"):
        return "value"
    return "asset" if _ASSET.fullmatch(path) else "other"


class Service:
    """Answers requests about one catalogue; a body seen before gets the same bytes without work.

    Args:
        catalogue: what exists.
        url: its own address, which the discovery document names.
    """

    def __init__(self, catalogue: Catalogue, url: str) -> None:
        self._catalogue = catalogue
        self._functions = functions(catalogue)
        shipped = distribution("earthengine-api")  # both documents come with the client, as its tests' data
        discovery = json.loads(
            shipped.locate_file("ee/tests/cloud_api_discovery_document.json").read_text().replace("v1alpha", "v1")
        )
        discovery |= {"rootUrl": f"{url}/", "baseUrl": f"{url}/"}
        self._discovery = in_json(discovery)
        self._algorithms = Reply(200, shipped.locate_file("ee/tests/algorithms.json").read_bytes())
        self._kept = _Kept()

    def reply(self, path: str, body: bytes) -> Reply:
        """The answer to one request; ``path`` is without its query."""
        try:
            check_body(len(body))
            return self._answer(path, body)
        except Refused as error:
            return refusal(error.status, error.message)
        except Exception as error:  # noqa: BLE001 - the edge of the program
            _log.exception("%s", path)
            return refusal(400, f"The emulator failed: {error!r}")  # not a 5xx: a client would try again

    def _answer(self, path: str, body: bytes) -> Reply:
        match kind_of(path):
            case "discovery":
                return self._discovery
            case "algorithms":
                return self._algorithms
            case "asset":
                return self._asset(path)
            case "pixels":
                return self._kept.get(body) or self._kept.put(body, self._pixels(_parsed(body)))
            case "value":
                return self._kept.get(body) or self._kept.put(body, self._value(_parsed(body)))
        raise Refused(f"The emulator has no method at {path}.", 404)

    def _asset(self, path: str) -> Reply:
        identity = path.partition("/assets/")[2]
        name = path.removeprefix("/v1/")
        if self._catalogue.collection(identity) is not None:
            return in_json({"type": "IMAGE_COLLECTION", "name": name, "id": identity})
        scene = self._catalogue.scene(identity)
        if scene is None:
            raise Refused(f"Asset '{name}' not found (does not exist or caller does not have access).", 404)
        bands: list[JSONValue] = [{"id": band} for band in scene.names]
        return in_json({"type": "IMAGE", "name": name, "id": identity, "bands": bands})

    def _value(self, request: dict[str, Any]) -> Reply:
        return in_json({"result": described(evaluate(request["expression"], self._functions))})

    def _pixels(self, request: dict[str, Any]) -> Reply:
        image = evaluate(request["expression"], self._functions)
        if not isinstance(image, Image):
            raise Refused("Image.computePixels: The expression must evaluate to an image.")
        if wanted := request.get("bandIds"):
            image = select_bands(image, wanted)
        if not image.names:
            raise Refused("Image.computePixels: The image has no bands.")
        grid = _grid(request.get("grid"))
        check_pixels(grid, bands=len(image.names), itemsize=image.dtype.itemsize)
        match request.get("fileFormat"):
            case "NPY":
                return npy(image, grid)
            case "GEO_TIFF":
                return geotiff(image, grid)
        raise Refused(f"The emulator does not write {request.get('fileFormat')}.")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Refused("Invalid JSON payload received. Unable to parse.") from error
    if not isinstance(request, dict) or "expression" not in request:
        raise Refused("Invalid JSON payload received. The expression is required.")
    return request


def _grid(asked: Any) -> Grid:
    if not isinstance(asked, dict):
        raise Refused("The emulator needs a grid: dimensions, affineTransform and crsCode.")
    try:
        size, affine = asked["dimensions"], asked["affineTransform"]
        a, b, c, d, e, f = (
            float(affine.get(key, 0)) for key in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
        )
        return Grid(asked["crsCode"], (a, b, c, d, e, f), int(size["height"]), int(size["width"]))
    except KeyError as error:
        raise Refused(f"The emulator needs a whole grid; it lacks {error}.") from error


class _Kept:
    """Replies by request body, the least recently used dropped."""

    def __init__(self) -> None:
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, body: bytes) -> Reply | None:
        with self._lock:
            if body in self._replies:
                self._replies.move_to_end(body)
            return self._replies.get(body)

    def put(self, body: bytes, reply: Reply) -> Reply:
        with self._lock:
            if body not in self._replies:
                self._replies[body] = reply
                self._bytes += len(reply.body)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._replies.popitem(last=False)[1].body)
        return reply
