"""Routes of who is logged in, and of who has a token.

No ``from __future__ import annotations`` in this file: FastAPI reads the annotations of functions
that are defined inside, where fastapi is imported so that this module loads without.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from skyreid.contract.errors import InputError
from skyreid.server.access.roles import RULES
from skyreid.server.access.sessions import HOURS
from skyreid.server.web.gate import CALLER, PURPOSE_MAX, Access, Caller, Gate
from skyreid.server.web.request import cookie_of

if TYPE_CHECKING:
    from fastapi import FastAPI, Request


class Login(BaseModel):
    """A token, or the word of a link that ``skyreid-server token link`` printed."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field("", max_length=200)
    link: str = Field("", max_length=200)


class Why(BaseModel):
    """What somebody looks for, and in which case."""

    model_config = ConfigDict(extra="forbid")
    purpose: str = Field(min_length=1, max_length=PURPOSE_MAX)
    case: str = Field(min_length=1, max_length=PURPOSE_MAX)


def protect(api: "FastAPI", access: Access) -> Gate:
    """The application with routes of the log-in, behind the gate, and its roles in OpenAPI."""
    from fastapi import HTTPException, Request, Response
    from fastapi import Path as Segment
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    tokens, sessions = access.tokens, access.sessions

    @api.post("/v1/session", summary="Log in: a cookie for a token, or for a link's word")
    def post_session(request: Request, given: Login) -> JSONResponse:
        try:
            checked = tokens.redeem(given.link) if given.link else tokens.check(given.token)
        except InputError as error:
            raise HTTPException(503, "the tokens cannot be written now") from error
        token = checked.token
        if token is None or checked.trouble:
            what = "link" if given.link else "token"
            return JSONResponse({"reason": f"this {what} is {checked.trouble}"}, 401)
        before = cookie_of(_headers(request), access.cookie)
        sessions.end(before)
        cookie, session = sessions.begin(token)
        caller = Caller(token.name, token.least, lambda: True, session)
        request.scope[CALLER] = caller
        answer = JSONResponse(_shown(access, caller))
        answer.set_cookie(
            access.cookie,
            cookie,
            max_age=HOURS * 3_600,
            secure=access.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    @api.get("/v1/session", summary="Who is logged in, and what this site asks for")
    def get_session(request: Request) -> dict[str, Any]:
        return _shown(access, request.scope[CALLER])

    @api.put("/v1/session/purpose", summary="Say what for, and in which case, for this session")
    def put_purpose(request: Request, why: Why) -> dict[str, Any]:
        caller: Caller = request.scope[CALLER]
        if caller.session is None:
            raise HTTPException(409, "no session: give the headers with each request")
        caller.session.purpose, caller.session.case = why.purpose.strip(), why.case.strip()
        return _shown(access, caller)

    @api.delete("/v1/session", summary="Log out", status_code=204)
    def delete_session(request: Request) -> Response:
        sessions.end(cookie_of(_headers(request), access.cookie))
        answer = Response(status_code=204)
        answer.delete_cookie(access.cookie, secure=access.secure, httponly=True, samesite="strict")
        return answer

    @api.get("/v1/tokens", summary="Who has a token, until when; never the token")
    def get_tokens() -> dict[str, Any]:
        try:
            return {"tokens": [token.shown() for token in tokens.listed()]}
        except InputError as error:
            raise HTTPException(503, "the tokens cannot be read now") from error

    @api.delete("/v1/tokens/{name}", summary="Take every token of a name back")
    def delete_token(name: Annotated[str, Segment(max_length=64)]) -> dict[str, Any]:
        try:
            return {"revoked": tokens.revoke(name)}
        except InputError as error:
            raise HTTPException(404, f"no token {name!r}") from error

    def wrong(_: Request, error: Exception) -> JSONResponse:
        """What was given is not repeated: it may be a token."""
        errors = error.errors() if isinstance(error, RequestValidationError) else []
        keep = ("type", "loc", "msg")
        said = [{key: each[key] for key in keep if key in each} for each in errors]
        return JSONResponse({"detail": said}, 422)

    api.add_exception_handler(RequestValidationError, wrong)
    _describe(api)
    return Gate(api, access)


def _headers(request: "Request") -> Mapping[str, list[str]]:
    return {"cookie": request.headers.getlist("cookie")}


def _shown(access: Access, caller: Caller) -> dict[str, Any]:
    session = caller.session
    until = None
    if session is not None:
        end = datetime.now(timezone.utc) + timedelta(seconds=access.sessions.left_s(session))
        until = end.isoformat(timespec="seconds")
    return {
        "name": caller.name,
        "role": caller.role.word,
        "open": caller.open,
        "csrf": session.csrf if session else None,
        "until": until,
        "purpose_required": access.purpose_required,
        "purpose": session.purpose if session else "",
        "case": session.case if session else "",
    }


def _describe(api: "FastAPI") -> None:
    """Say in OpenAPI what each route asks for."""
    made = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema:
            return api.openapi_schema
        whole = made()
        bearer = {"type": "http", "scheme": "bearer"}
        whole.setdefault("components", {})["securitySchemes"] = {"token": bearer}
        for path, operations in whole["paths"].items():
            for method, operation in operations.items():
                rule = RULES[method.upper(), path]
                answers = operation["responses"]
                if rule.least is None:
                    operation["security"] = []
                    continue
                operation["security"] = [{"token": []}]
                operation["x-least-role"] = rule.least.word
                answers["401"] = {"description": "no log-in, or one that is good no more"}
                answers["403"] = {"description": f"needs the role {rule.least.word}"}
                if rule.act:
                    answers["400"] = {"description": "purpose and case are missing"}
                if rule.bounded:
                    answers["429"] = {"description": "too many a minute of this token"}
        return whole

    api.openapi = openapi  # type: ignore[method-assign]
