"""Which of Ray's errors mean that work was lost with a process and may be done again."""

from ray.exceptions import ActorUnavailableError, ObjectLostError, OwnerDiedError, RayActorError

REFETCH = (ObjectLostError, OwnerDiedError)  # imagery is gone from the object store
RESEND = (RayActorError, ActorUnavailableError)  # an actor or replica died with the call
