"""The states of a case, and the permitted transitions between them."""

from __future__ import annotations

from enum import StrEnum

from dicom_config.errors import IllegalTransitionError


class CaseState(StrEnum):
    """The state of a case. `TRANSITIONS` has the permitted changes."""

    RECEIVING = "RECEIVING"
    READY = "READY"
    SEGMENTING = "SEGMENTING"
    AWAITING_SELECTION = "AWAITING_SELECTION"
    REFINING = "REFINING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    SUPERSEDED = "SUPERSEDED"


_S = CaseState

TRANSITIONS: dict[CaseState | None, frozenset[CaseState]] = {
    None: frozenset({_S.RECEIVING}),
    _S.RECEIVING: frozenset({_S.READY, _S.REJECTED}),
    _S.READY: frozenset({_S.SEGMENTING, _S.REJECTED, _S.FAILED, _S.SUPERSEDED}),
    # The input is refused if a worker cannot decode the pixels, or if an archive rejects the images.
    _S.SEGMENTING: frozenset({_S.AWAITING_SELECTION, _S.REJECTED, _S.FAILED, _S.SUPERSEDED}),
    _S.AWAITING_SELECTION: frozenset({_S.REFINING, _S.REJECTED, _S.ACCEPTED, _S.EXPIRED, _S.SUPERSEDED}),
    # An ACCEPT replaces a PICK whose round is not sent yet.
    _S.REFINING: frozenset({_S.AWAITING_SELECTION, _S.REJECTED, _S.ACCEPTED, _S.FAILED, _S.SUPERSEDED}),
    _S.FAILED: frozenset({_S.SEGMENTING, _S.REFINING, _S.REJECTED, _S.EXPIRED, _S.SUPERSEDED}),
    _S.REJECTED: frozenset({_S.SUPERSEDED}),
    _S.ACCEPTED: frozenset(),
    _S.EXPIRED: frozenset({_S.REJECTED, _S.SUPERSEDED}),
    _S.SUPERSEDED: frozenset(),
}

HOLDING = (_S.READY, _S.SEGMENTING, _S.AWAITING_SELECTION, _S.REFINING, _S.ACCEPTED)
"""The states in which a case has all its instances. A sender must not send them again."""


def check_transition(origin: CaseState | None, state: CaseState) -> None:
    """Raise IllegalTransitionError unless the table permits the transition from `origin` to `state`."""
    if state not in TRANSITIONS[origin]:
        raise IllegalTransitionError(
            "illegal-transition",
            f"A case that is {origin or 'new'} cannot become {state}.",
            "See the case's history with `uair case show`.",
        )
