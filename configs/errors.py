"""The project's one exception tree starts here; every layer derives from it."""


class MlwayError(Exception):
    """Anything that a user of mlway can put right. The message names the thing, the choices and the next step."""


class ConfigError(MlwayError):
    """A configuration file is missing, unreadable, or contradicts itself or another file."""

    def __init__(self, file: str, field: str, problem: str, hint: str) -> None:
        self.file, self.field, self.problem, self.hint = file, field, problem, hint
        where = f"{file}, field {field!r}" if field else file
        super().__init__(f"{where}: {problem}\nHint: {hint}")
