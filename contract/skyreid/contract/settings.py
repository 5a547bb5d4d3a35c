"""One frozen settings object per role: TOML file < environment < ``--section.key value``.

Every default stands in the role's class with a docstring that gives its unit; a wrong or unknown
key anywhere is reported together with all the others, by path.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as CommandLineError

from skyreid.contract.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Seconds = Annotated[float, Field(le=1e8)]
"""A span of time, at most three years: so much is still a number of nanoseconds in 64 bits when a
UTC time is added, and a wait that every clock takes."""


class Section(BaseModel):
    """A table of a settings file: frozen, unknown keys refused, docstrings under the fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Settings(BaseSettings):
    """Base of a role's settings; the role sets ``env_prefix`` in ``model_config``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_nested_delimiter="__", use_attribute_docstrings=True
    )


S = TypeVar("S", bound=Settings)
M = TypeVar("M", bound=BaseModel)


def load(cls: type[S], toml: Path, options: Sequence[str], *, program: str) -> S:
    """Read a role's settings.

    Args:
        cls: the role's settings class.
        toml: the settings file.
        options: what is left of the command line, ``--section.key value`` each.
        program: how the command is called, for ``--help``.

    Raises:
        SettingsError: the file is missing or is not TOML, or any key is unknown or wrong; the
            message names every one of them.
    """
    if not toml.is_file():
        raise SettingsError(f"settings file {str(toml)!r} does not exist")

    class Sources(cls):  # type: ignore[misc,valid-type]  # the file and options of this one call
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            command_line: CliSettingsSource[Any] = CliSettingsSource(
                settings_cls,
                cli_prog_name=program,
                cli_parse_args=list(options),
                cli_exit_on_error=False,
                cli_avoid_json=True,
            )
            return (command_line, env_settings, TomlConfigSettingsSource(settings_cls, toml))

    try:
        loaded = Sources()
        values = {name: getattr(loaded, name) for name in cls.model_fields}
        return cast(S, cls.model_construct(**values))
    except ValidationError as error:
        raise SettingsError(f"settings {toml}: {explain(cls, error)}") from error
    except CommandLineError as error:
        raise SettingsError(f"options of {program}: {_refused(cls, str(error))}") from error
    except (ValueError, RecursionError) as error:  # tomllib.TOMLDecodeError, which says the place
        raise SettingsError(f"settings {toml} is not TOML: {error}") from error


def _refused(cls: type[BaseModel], error: str) -> str:
    """An error of the command line; of what it does not know the names, not the values."""
    said, unknown, rest = error.partition("unrecognized arguments: ")
    if not unknown:
        return said
    names = _names(rest.split())
    return "; ".join(_unknown(cls, name, "--") for name in names) or _NAMELESS


_KEY = re.compile(r"--(site|\w+(\.\w+)+)")
"""``site`` is the one key of either role outside a table."""


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without the settings in it, which may stand anywhere, and these.

    argparse does not know them: it would take the value of one before the file for the file.
    """
    words: list[str] = []
    options: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if _KEY.fullmatch(word.partition("=")[0]) is None:
            words.append(word)
            continue
        options.append(word)
        if "=" not in word and left and not left[0].startswith("--"):
            options.append(left.pop(0))
    return words, options


def unrecognized(words: Sequence[str]) -> str:
    """What to say of words that a command does not know: a value may be a password."""
    return f"unrecognized arguments: {' '.join(_names(words)) or _NAMELESS}"


def _names(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


_NAMELESS = "a word without --"


def _unknown(cls: type[BaseModel], name: str, mark: str = "") -> str:
    """What is said of a key that there is not, with the one that looks most like it."""
    near = difflib.get_close_matches(name.removeprefix(mark), _paths(cls), n=1)
    return f"{name}: unknown key" + (f", did you mean {mark}{near[0]}?" if near else "")


def effective(settings: Settings) -> str:
    """The settings in force as canonical JSON: logged at start, digested into ``birth``."""
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def read_table(path: Path, what: str) -> dict[str, Any]:
    """What a TOML file says.

    Args:
        path: of the file.
        what: it is called in messages, as "site file".

    Raises:
        SettingsError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or tomllib.TOMLDecodeError
        raise SettingsError(f"{what} {path} is not TOML: {error}") from error


def check(cls: type[M], values: Mapping[str, Any], where: str) -> M:
    """A table as the class that says what may stand in it.

    Raises:
        SettingsError: naming, behind `where`, every key that is unknown or wrong.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(f"{where}: {explain(cls, error)}") from error


def without_login(text: str) -> str:
    """A text without the user and password of the URLs in it."""
    return re.sub(r'://[^/\s"]*@', "://", text)


def explain(cls: type[BaseModel], error: ValidationError) -> str:
    """Every key that is wrong, by its path as a user writes it, in one line.

    Args:
        cls: what was validated; a misspelled key is compared with all of its keys.
        error: of the validation.
    """
    parts = []
    for item in error.errors():
        path = ".".join(_written(cls, item["loc"]))
        if item["type"] == "extra_forbidden":
            parts.append(_unknown(cls, path))
        elif item["type"] == "missing":
            parts.append(f"{path}: missing, this key has no default")
        else:
            said = item["msg"].removeprefix("Value error, ")
            several = isinstance(item["input"], (dict, BaseModel))  # it is about several keys
            value = without_login(repr(item["input"]))
            # With an @ left in it, it may be a login that is not written as one.
            if not several and "@" not in value and not _is_secret(cls, item["loc"]):
                said += f" (got {value})"
            parts.append(f"{path}: {said}" if item["loc"] else said)
    return "; ".join(parts)


def _written(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """A location without the tags by which pydantic tells the kinds of a section apart."""
    kinds: tuple[type[BaseModel], ...] = (cls,)
    out = []
    for number, part in enumerate(location):
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        if kinds and not fields and number < len(location) - 1:
            continue  # an unknown key comes last: this is a tag
        out.append(str(part))
        kinds = tuple(model for info in fields for model in _models(info.annotation))
    return out


def _is_secret(cls: type[BaseModel], location: tuple[int | str, ...]) -> bool:
    """Whether what stands there may not be shown: a ``SecretStr``."""
    kinds: tuple[type[BaseModel], ...] = (cls,)
    secret = False
    for part in location:
        fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
        secret = any(SecretStr in (f.annotation, *get_args(f.annotation)) for f in fields)
        kinds = tuple(model for info in fields for model in _models(info.annotation)) or kinds
    return secret


def _models(annotation: object) -> tuple[type[BaseModel], ...]:
    """The sections that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in _models(part))


def _paths(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted paths of every key below ``cls``."""
    out = []
    for name, info in cls.model_fields.items():
        out.append(prefix + name)
        for model in _models(info.annotation):
            out += _paths(model, f"{prefix}{name}.")
    return out
