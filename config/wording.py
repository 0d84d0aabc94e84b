"""Pydantic's errors in the words of the configuration file: what was expected, and what stands there."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.problems import Location, shown
from config.settings import Settings


def explain(error: ErrorDetails, written: str | None) -> str:
    """One of pydantic's errors as a sentence; ``written`` is the scalar as the file spells it, where it is one."""
    location: Location = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(location)
    if kind == "value_error":
        # Raised by the models themselves, in the words that are wanted.
        return str(error["ctx"]["error"])
    expected = expectation(location)
    if kind == "missing":
        return f"missing; expected {expected}"
    value = error["input"]
    hint = ""
    if kind == "string_type" and isinstance(value, bool | int | float):
        # YAML makes false of no, and a number of 42: where text is wanted, that surprises.
        hint = f" ({'true or false' if isinstance(value, bool) else 'a number'} to YAML; in quotes it is text)"
    return f"expected {expected}, got {_got(value, written)}{hint}"


def expectation(location: Location) -> str:
    """What a setting takes, in words: ``a whole number from 0 to 1024``."""
    return _phrase(_annotation(location))


def _unknown(location: Location) -> str:
    keys = known_keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1]).lower(), keys, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; expected one of {', '.join(keys)}"


def known_keys(location: Location) -> list[str]:
    """The keys of the section at a location; empty where there is no section."""
    annotation = _not_null(_annotation(location))
    return list(annotation.model_fields) if _is_section(annotation) else []


def _got(value: object, written: str | None) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return shown(value)
        case _:
            return shown(written).strip("'\"") if written is not None else shown(value)


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _annotation(location: Location) -> Any:
    """The annotation, bounds and description with it, at a location; ``object`` where no model knows the place."""
    annotation: Any = Settings
    for part in location:
        annotation = _not_null(annotation)
        if _is_section(annotation):
            field: FieldInfo | None = annotation.model_fields.get(str(part))
            if field is None:
                return object
            annotation = Annotated[field.rebuild_annotation(), field]
        else:
            inner = [argument for argument in get_args(annotation) if argument is not Ellipsis]
            annotation = inner[-1] if inner else object
    return annotation


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its Annotated wrapping, and what was in that."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return inner, tuple(metadata)
    return annotation, ()


def _not_null(wrapped: Any) -> Any:
    """An annotation without what is around it, and, of one that may be null, what it is where it is not."""
    annotation, _ = _bare(wrapped)
    if get_origin(annotation) in (Union, types.UnionType):
        annotation, _ = _bare(next(each for each in get_args(annotation) if each is not type(None)))
    return annotation


def _phrase(wrapped: Any) -> str:
    annotation, metadata = _bare(wrapped)
    for item in metadata:
        if isinstance(item, FieldInfo) and item.description:
            return item.description
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _is_section(annotation):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    if origin is tuple:
        return f"a list, each item {_phrase(arguments[0])}"
    if origin is dict:
        return f"a mapping, each value {_phrase(arguments[1])}"
    if origin is Literal:
        return arguments[0] if len(arguments) == 1 else f"one of {', '.join(arguments)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_phrase(argument) for argument in arguments)
    if annotation is int:
        return f"a whole number{_range(metadata)}"
    if annotation is float:
        return f"a number{_range(metadata)}"
    return _SIMPLE.get(annotation, "another value")


_SIMPLE = {bool: "true or false", str: "text", Path: "a path", type(None): "null", None: "null"}


def _range(metadata: Iterable[Any]) -> str:
    low = high = ""
    for item in metadata:
        for bound in item.metadata if isinstance(item, FieldInfo) else [item]:
            if isinstance(bound, Ge):
                low = f" from {bound.ge}"
            elif isinstance(bound, Gt):
                low = f" above {bound.gt}"
            elif isinstance(bound, Le):
                high = f" to {bound.le}"
    return low + high
