"""The console's application: every page with its required role, and the middleware around all pages."""

from __future__ import annotations

from importlib import resources

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from dicom_config.errors import InputError
from uair_node.console.accesses import show_accesses
from uair_node.console.actions import act, confirm
from uair_node.console.add_lesion import add_lesion, ask_place
from uair_node.console.case import show_case
from uair_node.console.cases import list_cases
from uair_node.console.configuration import show_configuration
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.destinations import ask_destination, show_destinations
from uair_node.console.drawings import show_part, show_slice, show_solid, show_surfaces, show_thumbnail
from uair_node.console.exports import export_numbers, export_segmentation
from uair_node.console.guard import guarded
from uair_node.console.headers import NothingEscapes, SecurityHeaders
from uair_node.console.health import check_now, show_checks
from uair_node.console.login import login_routes
from uair_node.console.patient import look_up_patient, show_patient
from uair_node.console.pictures import show_picture
from uair_node.console.queues import show_queues
from uair_node.console.refused import show_refused
from uair_node.console.segmentation import show_segmentation
from uair_node.console.several import act_on_several, confirm_several
from uair_node.console.users import Role

_CASE = "/cases/{case_id:int}"
_SEVERAL = "/cases/several"
_SEGMENTATION = f"{_CASE}/rounds/{{round:int}}/{{k:int}}"


def make_app(console: ConsoleApp) -> Starlette:
    """Return the ASGI application of a console."""
    problem = _Problem(console)
    strict = console.context.settings.console.tls is not None
    app = Starlette(
        routes=[*login_routes(console), *_pages(console), *_actions(console), _files()],
        middleware=[
            Middleware(SecurityHeaders, strict_transport=strict),
            Middleware(NothingEscapes, problem=problem.unexpected),
        ],
        exception_handlers={HTTPException: problem.http},
    )
    app.router.redirect_slashes = False  # such a redirect repeats the Host header of the request
    return app


def _pages(console: ConsoleApp) -> list[BaseRoute]:
    operator = Role.OPERATOR
    return [
        guarded(console, "/", _home),
        guarded(console, "/cases", list_cases),
        guarded(console, _CASE, show_case),
        guarded(console, f"{_CASE}/patient", show_patient),
        guarded(console, f"{_CASE}/pictures/{{result_id:int}}.png", show_picture),
        guarded(console, f"{_CASE}/segmentation", show_segmentation),
        guarded(console, f"{_SEGMENTATION}/slices/{{slice:int}}.jpg", show_slice),
        guarded(console, f"{_SEGMENTATION}/thumbnail.jpg", show_thumbnail),
        guarded(console, f"{_SEGMENTATION}/parts/{{value:int}}/{{part:int}}.jpg", show_part),
        guarded(console, f"{_SEGMENTATION}/solid.jpg", show_solid),
        guarded(console, f"{_SEGMENTATION}/surfaces.glb", show_surfaces),
        guarded(console, f"{_SEGMENTATION}/export/{{form:str}}", export_segmentation),
        guarded(console, f"{_CASE}/export/{{form:str}}", export_numbers),
        guarded(console, "/queues", show_queues),
        guarded(console, "/destinations", show_destinations),
        guarded(console, "/refused", show_refused),
        guarded(console, "/checks", show_checks),
        guarded(console, "/configuration", show_configuration),
        guarded(console, "/access", show_accesses, role=operator),
        guarded(console, f"{_CASE}/add-lesion", ask_place, role=operator),
        guarded(console, f"{_SEVERAL}/{{action:str}}", confirm_several, role=operator),
        guarded(console, f"{_CASE}/{{action:str}}", confirm, role=operator),
    ]


def _actions(console: ConsoleApp) -> list[BaseRoute]:
    operator = Role.OPERATOR
    return [
        guarded(console, "/checks", check_now, role=operator, method="POST"),
        guarded(console, "/destinations/{name:path}/echo", ask_destination, role=operator, method="POST"),
        guarded(console, f"{_CASE}/add-lesion", add_lesion, role=operator, method="POST"),
        guarded(console, "/cases/patient", look_up_patient, method="POST"),
        guarded(console, f"{_SEVERAL}/{{action:str}}", act_on_several, role=operator, method="POST"),
        guarded(console, f"{_CASE}/{{action:str}}", act, role=operator, method="POST"),
    ]


def _files() -> BaseRoute:
    folder = resources.files("uair_node.console").joinpath("static")
    return Mount("/static", StaticFiles(directory=str(folder)), name="static")


def _home(_console: ConsoleApp, _request: ConsoleRequest) -> Response:
    return RedirectResponse("/cases", 303)


class _Problem:
    """Answers to unknown addresses and to unexpected errors."""

    def __init__(self, console: ConsoleApp) -> None:
        self._console = console

    async def http(self, _request: Request, error: Exception) -> Response:
        """Answer with the HTTP status of the framework's error (404 no such page, 405 no such method)."""
        assert isinstance(error, HTTPException)
        sentence = {404: "There is no such page.", 405: "This page does not accept such a request."}.get(
            error.status_code, "The console cannot answer this request."
        )
        problem = InputError("no-such-page", sentence, "Start from the list of cases.")
        return await self._page(problem, error.status_code)

    async def unexpected(self) -> Response:
        """Answer to an unexpected error."""
        remedy = "The console's log names the place of the fault."
        problem = InputError("console-failed", "This page failed.", remedy)
        return await self._page(problem, 500)

    async def _page(self, problem: InputError, status: int) -> Response:
        return await run_in_threadpool(
            self._console.page, "problem.html", None, status=status, error=problem, title="Not done"
        )
