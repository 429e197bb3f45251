"""Every metric of our own, stage by stage: dashboards, alerts and the table in the guide go by this list.

``model`` is the name of the encoder deployment (``dofa-large``), ``provider`` the backend that imagery came from,
``outcome`` ok or an error's code, ``fault`` at whose door that lies: nobody, caller, service.
Labels take few values and none that a caller can choose: each value is a time series in every process.
"""

from __future__ import annotations

from serve_app.observe.measures import Count, Level, Measure, Spread

_SAMPLES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

REQUEST_JOBS = Count(
    "request",
    "jobs",
    "Requests, when they end: complete, problems (some ROIs failed), failed (all did), left (the caller did).",
    ("model", "outcome"),
)
REQUEST_REFUSED = Count(
    "request", "refused", "Requests that no model was asked for, by the code of the error.", ("code",)
)
REQUEST_EXCUSED = Count(
    "request",
    "excused",
    "Requests answered with a 5xx status through a fault of the caller's (a deadline, a band), by its code.",
    ("code",),
)
REQUEST_ROIS = Count("request", "rois", "ROIs asked for.", ("model",))
REQUEST_ACTIVE_JOBS = Level("request", "active_jobs", "Requests under way in a router.")
REQUEST_LIMIT_JOBS = Level("request", "limit_jobs", "Most requests that a router takes at once.")
REQUEST_FIRST_ROW_SECONDS = Spread(
    "request", "first_row_seconds", "Time to the first rows of a request, or to its end where none came.", ("model",)
)
REQUEST_SECONDS = Spread(
    "request", "seconds", "Time to the last rows of a request, the reading of them included.", ("model",)
)

FETCH_CHIPS = Count("fetch", "chips", "ROIs through the fetch actors.", ("provider", "outcome", "fault"))
FETCH_SECONDS = Spread(
    "fetch", "seconds", "Time to the chip of an ROI, from cache or provider, or to its failure.", ("provider",)
)
FETCH_WAIT_SECONDS = Spread(
    "fetch", "wait_seconds", "How long an ROI waited in a fetch actor before its read began.", ("provider",)
)
FETCH_WAITING_ROIS = Level("fetch", "waiting_rois", "ROIs that a fetch actor has been given and not handed over yet.")
FETCH_WANTED_ACTORS = Level("fetch", "wanted_actors", "Fetch actors that there should be, as each router says.")
FETCH_REQUESTS = Count(
    "fetch",
    "requests",
    "Requests sent to a provider's service, whatever came of them: what its quota and bill count.",
    ("provider",),
)
FETCH_RETRIES = Count("fetch", "retries", "Requests that were sent again.", ("provider",))
FETCH_BYTES = Count("fetch", "bytes", "Bytes that a provider's service answered with.", ("provider",))
FETCH_PIXELS = Count(
    "fetch", "pixels", "Pixels read from a provider (height x width x frames); cached ones cost nothing.", ("provider",)
)
FETCH_KM2 = Count(
    "fetch", "km2", "Ground read from a provider, in square kilometres; cached chips do not count.", ("provider",)
)

CACHE_CHIPS = Count(
    "cache", "chips", "Chips by where they were: memory, disk, shared (another's read), miss.", ("provider", "found")
)

CACHE_BYTES = Level(
    "cache", "bytes", "Bytes of cached chips: in memory a fetch actor's own, on disk those of its machine.", ("found",)
)
CACHE_FAILURES = Count("cache", "failures", "Chips that could not be written to the cache.", ("found",))

LIMITER_REQUESTS = Level(
    "limiter",
    "requests",
    "Of a fetch actor: requests inside the gate, waiting, and its part of the quota.",
    ("provider", "state"),
)
LIMITER_BROKEN = Level(
    "limiter",
    "broken",
    "1 if a fetch actor sends a provider nothing for a while, because its last requests met a fault that all meet.",
    ("provider",),
)
LIMITER_WAIT_SECONDS = Count(
    "limiter", "wait_seconds", "Time that requests waited for a slot of the quota.", ("provider",)
)
LIMITER_COMPLAINTS = Count(
    "limiter", "complaints", "Answers that said too many requests (429 and its like).", ("provider",)
)
LIMITER_LOST_RENEWALS = Count("limiter", "lost_renewals", "Renewals of a fetch actor's part of the quota that failed.")

PREPARE_SECONDS = Count("prepare", "seconds", "Time spent preparing ROIs.", ("model",))
PREPARE_SAMPLES = Count("prepare", "samples", "Samples made of chips; a large ROI gives several.", ("model",))

BATCH_SAMPLES = Spread("batch", "samples", "Samples in a batch that the device is given.", ("model",), _SAMPLES)
BATCH_FORWARDED_SAMPLES = Count("batch", "forwarded_samples", "Samples of the batches that are over.", ("model",))
BATCH_WAIT_SECONDS = Spread("batch", "wait_seconds", "How long the oldest sample of a batch had waited.", ("model",))
BATCH_WAITING_SAMPLES = Level(
    "batch", "waiting_samples", "Samples of a replica that no forward has taken yet.", ("model",)
)
BATCH_LIMIT_SAMPLES = Level("batch", "limit_samples", "Most samples that a forward may have.", ("model",))

FORWARD_SECONDS = Spread("forward", "seconds", "Time of a forward that did not fail.", ("model",))
FORWARD_BUSY_SECONDS = Count(
    "forward", "busy_seconds", "Device time that a model cost, that of forwards that failed included.", ("model",)
)
FORWARD_HALVINGS = Count(
    "forward", "halvings", "Batches that were computed in parts because they did not fit the device.", ("model",)
)
FORWARD_FAILURES = Count("forward", "failures", "Forwards that failed, by the code of the error.", ("model", "code"))
FORWARD_WEIGHTS_LOADED = Level(
    "forward", "weights_loaded", "1 if a replica has its weights, 0 if they could not be loaded.", ("model",)
)

ASSEMBLE_SECONDS = Count("assemble", "seconds", "Time that routers spent making rows of tokens.", ("model",))

STREAM_ROWS = Count("stream", "rows", "Outcomes of ROIs, as they are handed to callers.", ("model", "outcome", "fault"))
STREAM_BYTES = Count("stream", "bytes", "Bytes of the embeddings handed to callers, as float32.", ("model",))
STREAM_KM2 = Count(
    "stream", "km2", "Ground that was embedded, in square kilometres; ROIs that failed do not count.", ("model",)
)
STREAM_RESENT_ROIS = Count(
    "stream", "resent_rois", "ROIs sent again because a process died: fetch (read again) or forward.", ("stage",)
)

ALL: tuple[Measure, ...] = tuple(value for value in vars().values() if isinstance(value, Measure))
