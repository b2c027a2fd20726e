"""The roots of every error: what a person can mend, and what may pass by itself."""


class OrreryError(Exception):
    """Something a person can act on. The message is one line and says what to do."""


class TransientError(OrreryError):
    """A dependency did not answer; the same call may succeed later, so a retry is safe."""
