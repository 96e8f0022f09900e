"""What goes wrong on this machine, before there is a request to answer."""


class EngineError(RuntimeError):
    """An embedded engine cannot be installed, started or stopped; the message says what to do."""
