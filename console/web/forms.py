"""What forms share: shown again with what is wrong, and what comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Form, Request, Response

from console import problems
from console.parts import parts_of
from console.web.pages import render, wrong

Text = Annotated[str, Form(max_length=4096)]
Texts = Annotated[list[str], Form(max_length=1000)]


def again(request: Request, error: Exception, template: str, context: Mapping[str, Any]) -> Response:
    """The form once more, with what is wrong (``error``) and what was typed. An error of ours is raised again.

    Where there were too many wrong guesses, the answer says when the next may be.
    """
    text = wrong(error, request)
    found = problems.of(error, parts_of(request).clock())
    late = found.status is HTTPStatus.TOO_MANY_REQUESTS
    status = found.status if late else HTTPStatus.UNPROCESSABLE_ENTITY
    headers = {key: value for key, value in found.headers.items() if key == "Retry-After"}
    return render(request, template, {**context, "error": text}, status=status, headers=headers)
