from apps.core.errors import ConflictError, InvalidRequestError, NotFoundError


class AgentNotFoundError(NotFoundError):
    """There is no such agent, or it is not yours."""

    code = "agent_not_found"


class ShareNotFoundError(NotFoundError):
    """The agent has no such share."""

    code = "share_not_found"


class AlreadySharedError(ConflictError):
    """The agent is shared with this tenant already."""

    code = "already_shared"


class ConversationNotFoundError(NotFoundError):
    """There is no such conversation, or it is not yours."""

    code = "conversation_not_found"


class RunNotFoundError(NotFoundError):
    """There is no such run, or it is not yours."""

    code = "run_not_found"


class NotReplayableError(ConflictError):
    """Only a run that waits for a worker can be replayed."""

    code = "not_replayable"


class ContextTooLongError(InvalidRequestError):
    """The question does not fit into the model's window."""

    code = "context_too_long"
