"""Our own error tree: each error says what failed, how to fix it, and which exit code follows."""

import errno
from collections.abc import Mapping
from typing import Any


class MlpError(Exception):
    """Base of every error that `mlp` shows to its user.

    `message` names the thing and the allowed values, `fix` is what to do about it (a command where
    there is one), `cause` is what the tool below said; the foreign exception is chained as
    `__cause__`. `exit_code` is what the process ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str = "", cause: str = "") -> None:
        super().__init__(message)
        if fix:
            self.add_note(f"fix: {fix}")  # seen where it ends a user's script
        self.message = message
        self.fix = fix
        self.cause = cause

    def one_line(self) -> str:
        """Message, the first line of the cause, and the fix."""
        parts = (self.message, self.cause.strip().partition("\n")[0])
        text = ": ".join(part for part in parts if part)
        return f"{text} ({self.fix})" if self.fix else text


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
            fix=f"pip install 'mlp-loop[{extra}]'",
            cause=cause,
        )


class GateRefused(MlpError):  # noqa: N818 - a verdict, not a malfunction
    """The command worked and its answer is no: drift found, quality too low, not reproduced."""

    exit_code = 4


class RemoteError(MlpError):
    """Something on another machine failed or cannot be reached."""

    exit_code = 5


class Unavailable(RemoteError):  # noqa: N818 - a state, which may pass
    """Something on another machine does not answer now; trying again may help."""


class LoginRefused(RemoteError):  # noqa: N818 - what a server said of the user
    """A server wants another user, password or token; waiting does not help."""


class UserCodeError(MlpError):
    """The user's own code failed; its last log lines are the cause."""

    exit_code = 6


class StageFailed(UserCodeError):  # noqa: N818 - what happened, in the pipeline's terms
    """A stage's command ended with `status`, None where DVC gave the stage up around it."""

    def __init__(
        self,
        message: str,
        *,
        stage: str = "",
        status: int | None = None,
        fix: str = "",
        cause: str = "",
    ) -> None:
        super().__init__(message, fix=fix, cause=cause)
        self.stage = stage
        self.status = status


def links(error: BaseException | None, *, contexts: bool = False) -> list[BaseException]:
    """An error and what it was raised from, each once, the outermost first: whoever raised them may
    have closed a circle. With `contexts` also what was being handled, where no cause is given."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (error.__context__ if contexts else None)
    return found


def words(error: MlpError) -> dict[str, Any]:
    """An error as another process reads it with `from_words`."""
    names = ("message", "fix", "cause", "exit_code")
    return {name: getattr(error, name) for name in names}


def from_words(words: Mapping[str, Any]) -> MlpError:
    """The error that another process wrote down as `message`, `fix`, `cause` and `exit_code`."""
    kinds = (UsageError, ConfigurationError, GateRefused, RemoteError, UserCodeError)
    kind = next((k for k in kinds if k.exit_code == words["exit_code"]), MlpError)
    return kind(words["message"], fix=words["fix"], cause=words["cause"])


_OS_FIXES = {
    errno.ENOSPC: "free some space, then run it again: `df -h` shows where it is full",
    errno.EDQUOT: "your disk quota is used up: free some space, then run it again",
    errno.EROFS: "mlp keeps its state under .mlp/ in the project: make the disk writable",
    errno.EACCES: "check the owner and the mode of that file or directory",
    errno.EPERM: "check the owner and the mode of that file or directory",
    errno.EMFILE: "raise the limit of open files: `ulimit -n 4096`",
}


def from_os_error(error: OSError) -> ConfigurationError:
    """What the operating system refused, with what can be done about it; `error` is chained."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f": {' -> '.join(names)}" if names else ""
    reason = error.strerror or str(error) or type(error).__name__
    known = ConfigurationError(f"{reason.lower()}{where}", fix=_OS_FIXES.get(error.errno or 0, ""))
    known.__cause__ = error
    return known
