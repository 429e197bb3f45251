"""Every exception of the library and the service, one tree.

``RSEmbedError`` is the root; ``SpecError``, ``ModelError`` and ``ProviderError`` keep the names that callers of
rs-embed catch, and every finer class is one of the three. Errors cross processes, so they pickle: keyword
fields, no live objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

type JSONValue = str | int | float | bool | Sequence[JSONValue] | Mapping[str, JSONValue] | None


class RSEmbedError(Exception):
    """Root of the tree.

    Attributes:
        code: stable machine-readable name of what happened (``unknown_model``).
        hint: what would be right.
        retryable: whether the same request may succeed later.
        context: JSON-able facts (the value, the known names, ...).
    """

    default_code: ClassVar[str] = "internal_error"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
        context: Mapping[str, JSONValue] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.context: dict[str, JSONValue] = dict(context or {})

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.hint, self.retryable, self.context))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == getattr(other, "__dict__", None)

    def __hash__(self) -> int:
        return hash((type(self), self.message, self.code))

    def again(self, *, hint: str | None = None, **context: JSONValue) -> Self:
        """An equal error to keep, or to raise where this one was raised before: without traceback and cause.

        An exception that is kept grows a traceback with each raise, and its frames hold on to the chips in them.

        Args:
            hint: in place of its own.
            context: facts beside its own.
        """
        facts = {**self.context, **context}
        return type(self)(self.message, code=self.code, hint=hint or self.hint, retryable=self.retryable, context=facts)


def _rebuild(  # noqa: PLR0913 - one per attribute
    cls: type[RSEmbedError],
    message: str,
    code: str,
    hint: str | None,
    retryable: bool,  # noqa: FBT001 - positional only because pickle calls it
    context: dict[str, JSONValue],
) -> RSEmbedError:
    return cls(message, code=code, hint=hint, retryable=retryable, context=context)


def error_classes() -> Iterator[type[RSEmbedError]]:
    """Yield every class of the tree, root first (problem pages and contract tests iterate over it)."""
    pending: list[type[RSEmbedError]] = [RSEmbedError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending.extend(cls.__subclasses__())


# --- what the caller said ----------------------------------------------------------------------------------


class SpecError(RSEmbedError):
    """A request or one of its specs is wrong."""

    default_code = "invalid_spec"


class InvalidRequest(SpecError):
    """The request is readable but asks for something impossible."""

    default_code = "invalid_request"


class MalformedBody(SpecError):
    """The body is not parseable (not JSON, not an object)."""

    default_code = "malformed_body"


class UnsupportedMedia(SpecError):
    """The Content-Type or Accept header names a media type that is not spoken here."""

    default_code = "unsupported_media_type"


class RoiTooLarge(SpecError):
    """One ROI needs more pixels or tiles than the limit."""

    default_code = "roi_too_large"


class BatchTooLong(SpecError):
    """Too many ROIs, or too many bytes, in one request."""

    default_code = "batch_too_long"


# --- the model ---------------------------------------------------------------------------------------------


class ModelError(RSEmbedError):
    """A model cannot do what was asked."""

    default_code = "model_error"


class UnknownModel(ModelError):
    """No card has this id or alias."""

    default_code = "unknown_model"


class UnknownOption(ModelError):
    """A ``model_config`` key or value, variant or modality that the card does not declare."""

    default_code = "unknown_option"


class Unsupported(ModelError):
    """Valid in itself, but not for this model (or not in this installation)."""

    default_code = "unsupported"


class InvalidInput(ModelError):
    """The pixels do not suit the model: band count or order, dtype, units."""

    default_code = "invalid_input"


class CheckpointError(ModelError):
    """Weights are missing, damaged or do not fit the network."""

    default_code = "checkpoint_error"


class ForwardError(ModelError):
    """The network failed on this input."""

    default_code = "forward_error"

    @staticmethod
    def of(error: Exception) -> RSEmbedError:
        """What a forward raised, where it is one of the library's errors; or one that names it."""
        if isinstance(error, RSEmbedError):
            return error
        return ForwardError(f"the forward failed: {type(error).__name__}: {error}")


class OutOfMemory(ForwardError):
    """The device ran out of memory even for one sample."""

    default_code = "out_of_memory"


# --- imagery, and the service that provides it -------------------------------------------------------------


class ProviderError(RSEmbedError):
    """Imagery could not be had."""

    default_code = "provider_error"
    default_retryable = True


class UnknownProvider(ProviderError):
    """No provider has this name."""

    default_code = "unknown_provider"
    default_retryable = False


class NoImagery(ProviderError):
    """The collection has nothing valid for this place and window."""

    default_code = "no_imagery"
    default_retryable = False


class ProviderQuota(ProviderError):
    """The provider's quota is spent."""

    default_code = "provider_quota"


class ProviderAuth(ProviderError):
    """Credentials are missing, expired or not enough."""

    default_code = "provider_auth"
    default_retryable = False


class ProviderTimeout(ProviderError):
    """The provider did not answer in time."""

    default_code = "provider_timeout"


class DeadlineExceeded(ProviderError):
    """The request's own deadline passed before this item was done."""

    default_code = "deadline_exceeded"


class Overloaded(ProviderError):
    """The service has no room for the request now."""

    default_code = "overloaded"


class Unavailable(ProviderError):
    """The service, or the model's deployment, is not reachable or not up."""

    default_code = "unavailable"


class IncompleteStream(ProviderError):
    """A result stream ended without its summary: rows are missing."""

    default_code = "incomplete_stream"
