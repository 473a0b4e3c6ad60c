"""Our own error tree: each error says what failed, how to fix it, and which exit code follows."""


class MlpError(Exception):
    """Base of every error that `mlp` shows to its user.

    `message` names the thing and the allowed values, `fix` is what to do about it (a command where
    there is one), `cause` is what the tool below said; the foreign exception is chained as
    `__cause__`. `exit_code` is what the process ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.cause = cause


class UsageError(MlpError):
    """The command was called in a way it does not know."""

    exit_code = 2


class ConfigurationError(MlpError):
    """mlp.yaml, the project or this machine is not in a state in which the command can run."""

    exit_code = 3


class MissingExtraError(ConfigurationError):
    """A part of `mlp` was asked for whose dependencies are not installed."""

    def __init__(self, feature: str, extra: str, cause: str = "") -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            fix=f"pip install 'mlp[{extra}]'",
            cause=cause,
        )


class GateRefused(MlpError):  # noqa: N818 - a verdict, not a malfunction
    """The command worked and its answer is no: drift found, quality too low, not reproduced."""

    exit_code = 4


class RemoteError(MlpError):
    """Something on another machine failed or cannot be reached."""

    exit_code = 5


class UserCodeError(MlpError):
    """The user's own code failed; its last log lines are the cause."""

    exit_code = 6
