"""What could be deployed and would not work is refused here, with what would; what needs a hand is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.inputs import Variant
from rs_embed_core.registry import get_card
from serve_app.kubernetes.devices import check_count, check_memory
from serve_app.kubernetes.groups import FETCH
from serve_app.kubernetes.manifests import Manifests
from serve_app.kubernetes.settings import WEIGHTS, loads, settings_of
from serve_app.kubernetes.values import Values
from serve_app.router import default_ask
from serve_app.settings import ModelSettings, ServiceSettings

_CACHE, _CACHE_SHARE = Path("/cache"), 0.9  # of the volume there that chips may take: it is a limit, and pods go at it


def check(values: Values, settings: ServiceSettings, manifests: Manifests) -> None:
    """Refuse what could be deployed and would not work.

    Args:
        manifests: what stands in k8s/base: the settings there suit the pods there.

    Raises:
        InvalidRequest: it says what, and what would work.
        Unsupported: there are no manifests.
    """
    (application,) = manifests.serve["applications"]
    _check_names(settings)
    _check_products(settings)
    _check_quota(values, settings)
    if values.gpu is not None:
        check_memory(loads(values), values.gpu)
        check_count(loads(values), values.gpu)
    if values.weights != "image":
        _check_weights(values, settings)
    _check_fixed(settings, settings_of(application["args"]))
    _check_cache(settings, _CACHE_SHARE * manifests.volume_mb(FETCH, "cache"))
    if settings.observe.traces.endpoint is not None and not values.monitoring:
        msg = "observe.traces.endpoint is set, and pods have no way to a collector."
        raise InvalidRequest(msg, hint="Say monitoring: true: it lets them reach the namespace monitoring, port 4318.")


def advice(values: Values) -> Iterator[str]:
    """Yield what has to be done by hand."""
    models = [ModelSettings(model=entry.model, variant=entry.variant) for entry in values.models]
    for name, variant in _variants(models):
        weights = variant.weights
        if weights is not None and weights.url:
            where = "the volume" if values.weights == "pvc" else "weights/"
            yield f"{name}: its weights are on no Hub: put {weights.url} at {weights.repo}/{weights.file} of {where}"
    if any(_provider(model) == "tessera" for model in models):
        yield "tessera: its package is not in the image: build it with --build-arg PACKAGES=geotessera"


def _variants(models: Iterable[ModelSettings]) -> Iterator[tuple[str, Variant]]:
    """Yield the networks that are served, by the name of their deployment."""
    for model in models:
        selection = default_ask(model)[1]
        yield selection.encoder, get_card(model.model)[0].variant(selection.variant, selection.modality)


def _provider(model: ModelSettings) -> str | None:
    """The provider that a precomputed product is read through."""
    product = get_card(model.model)[0].product
    return None if product is None else product.provider


def _check_names(settings: ServiceSettings) -> None:
    names = [default_ask(model)[1].encoder for model in settings.models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"{', '.join(twice)} is listed twice in the models."
        raise InvalidRequest(msg, hint="List it once, with more replicas.")


def _check_products(settings: ServiceSettings) -> None:
    """A product is read through its own provider, whatever the default is."""
    for model in settings.models:
        name = _provider(model)
        if name is not None and name not in settings.providers.names:
            section = "{path: /maps}" if name == "copernicus" else "{}"
            how = "provider.name: gee" if name == "gee" else f"settings: {{providers: {{{name}: {section}}}}}"
            raise InvalidRequest(f"{model.model} is read through {name}, which is not set up.", hint=f"Say {how}.")
    copernicus = settings.providers.copernicus
    if copernicus is not None and copernicus.path is None:
        msg = "providers.copernicus has no path, and pods take nothing from the Hub."
        raise InvalidRequest(
            msg, hint="Mount a volume with the map on fetch pods, and say its path: docs/kubernetes.md, Products."
        )


def _check_weights(values: Values, settings: ServiceSettings) -> None:
    """Only GPU pods have fetched weights where there are GPUs, and only at one place."""
    if settings.checkpoints.root != Path(WEIGHTS):
        msg = f"checkpoints.root is {settings.checkpoints.root}, and what is fetched is at {WEIGHTS}."
        raise InvalidRequest(msg, hint="Leave it out.")
    on_gpus = {load.name for load in loads(values)}
    for name, variant in _variants(settings.models):
        if values.gpu is not None and variant.weights is not None and name not in on_gpus:
            msg = f"{name} would compute on fetch pods, which do not have the weights."
            raise InvalidRequest(msg, hint="Give it a part of a GPU (gpus: 0.2), or bake weights (weights: image).")
        if values.weights == "cache" and variant.weights is not None and variant.weights.url:
            msg = f"the weights of {name} are on no Hub, so pods cannot fetch them: {variant.weights.url}."
            raise InvalidRequest(msg, hint="Put them into the image (weights: image) or on a volume (weights: pvc).")


def _check_quota(values: Values, settings: ServiceSettings) -> None:
    gee, quota = settings.providers.gee, values.provider.quota
    if gee is None:
        return
    if gee.at_once > quota:
        raise InvalidRequest(
            f"{gee.at_once} requests at once are more than the {quota} that Earth Engine allows the project.",
            hint="Lower provider.at_once, or say the project's own quota in provider.quota.",
        )
    if gee.at_once > values.quota_of_cluster:
        raise InvalidRequest(
            f"{gee.at_once} requests at once are more than half of the {quota} that Earth Engine allows the project: "
            "with gateway two clusters serve during an upgrade, and each takes as many.",
            hint=f"Leave provider.at_once out, or take at most {values.quota_of_cluster}.",
        )
    reads = settings.fetch.actors * settings.fetch.concurrency
    if reads > quota:
        raise InvalidRequest(
            f"{settings.fetch.actors} fetch actors with {settings.fetch.concurrency} reads each are {reads} at once, "
            f"more than the {quota} that Earth Engine allows the project.",
            hint=f"Leave fetch.concurrency out, or take at most {max(1, quota // settings.fetch.actors)}.",
        )


def _check_fixed(settings: ServiceSettings, base: ServiceSettings) -> None:
    """What pods and settings say both."""
    if settings.limits.timeout_s > base.limits.timeout_s:
        raise InvalidRequest(
            f"limits.timeout_s is {settings.limits.timeout_s:g}, and pods take {base.limits.timeout_s:g} s to drain.",
            hint="A longer request would be cut by an upgrade: raise the grace periods of k8s/base with it.",
        )
    if settings.http.haproxy != base.http.haproxy:
        msg = f"http.haproxy is {settings.http.haproxy}, and pods are started for {base.http.haproxy}."
        raise InvalidRequest(msg, hint="Leave it out, or change RAY_SERVE_ENABLE_HA_PROXY of k8s/base with it.")
    for who, wanted, said in (
        ("http.router_resources", base.http.router_resources, settings.http.router_resources),
        ("fetch.resources", base.fetch.resources, settings.fetch.resources),
    ):
        if missing := sorted(name for name in wanted if not said.get(name)):
            msg = f"{who} have no {', '.join(missing)}: they would let it sit on any pod, also on a GPU's."
            raise InvalidRequest(msg, hint="Leave them out: those of k8s/base stay, and further ones are added.")


def _check_cache(settings: ServiceSettings, most_mb: float) -> None:
    cache = settings.fetch.cache
    if cache.disk_path is None:
        return
    if not cache.disk_path.is_relative_to(_CACHE):
        msg = f"fetch.cache.disk_path is {cache.disk_path}, and fetch pods can write below {_CACHE} alone."
        raise InvalidRequest(msg, hint="Say fetch.cache.disk_path: /cache/chips.")
    if cache.disk_mb > most_mb:
        msg = f"fetch.cache.disk_mb is {cache.disk_mb:g}, and the volume of fetch pods holds {most_mb:.0f}."
        raise InvalidRequest(
            msg, hint="Lower it, or give k8s/base a larger volume cache, and fetch pods that much disk."
        )
