"""Which of Ray's errors mean that work was lost with a process and may be done again."""

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

REFETCH = (ObjectLostError, OwnerDiedError)  # imagery is gone from the object store
# An actor or replica died with the call. The last four are no RayActorError: Ray's memory monitor, for one, kills an
# actor with OutOfMemoryError.
RESEND = (RayActorError, OutOfMemoryError, NodeDiedError, WorkerCrashedError, LocalRayletDiedError)


def first_line(error: BaseException) -> str:
    """What an error says, without the remote traceback that Ray adds; its class where it says nothing."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    known = cause if isinstance(cause, Exception) else error
    text, kind = next(iter(str(known).splitlines()), ""), type(known).__name__
    return f"{kind}: {text}" if text and known is cause else text or kind
