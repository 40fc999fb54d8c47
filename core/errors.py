"""Every error redraft raises on purpose, in one tree.

    RedraftError                 base; str(error) is shown to the user as it is
    ├── UsageError               the user can mend it                      exit code 2
    │   ├── InputError           a prompt, an image, a file, an option
    │   └── ConfigError          a profile or a setting
    └── BackendError             a model or a server failed                exit code 3
        ├── ModelMissing         weights are not where the profile says
        ├── ServerError          unreachable, timed out, or answered with an error
        └── BadReply             answered, but not with what was asked

Foreign exceptions are mapped to these at the boundary where the foreign library is called.
A message names the thing that is wrong and how to mend it.
"""


class RedraftError(Exception):
    """Base of all errors that redraft raises on purpose."""

    exit_code = 3


class UsageError(RedraftError):
    """Something the user can mend."""

    exit_code = 2


class InputError(UsageError):
    """A prompt, image, file or option that cannot be used."""


class ConfigError(UsageError):
    """A profile or a setting that cannot be used."""


class BackendError(RedraftError):
    """A model or a server failed."""


class ModelMissing(BackendError):  # noqa: N818
    """Weights are not where the profile says."""


class ServerError(BackendError):
    """A server is unreachable, timed out, or answered with an error."""


class BadReply(BackendError):  # noqa: N818
    """A model answered, but not with what was asked."""
