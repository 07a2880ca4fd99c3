"""Write the DICOM conformance statement (PS3.2) from the data that the node itself uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.uid import UID
from pynetdicom import AE, sop_class
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from dicom_config.contexts import (
    SELECTION_SOP_CLASSES,
    SENT_SOP_CLASSES,
    SENT_TRANSFER_SYNTAXES,
    sop_classes,
    transfer_syntaxes,
)
from dicom_config.modalities import PROFILES
from dicom_config.model import IntakeSection, NodeSection, Settings, Verb
from dicom_config.tls import TLS_1_2_SUITES, TLS_1_3_SUITES, TLS_PROFILE
from uair_node import __version__
from uair_node.network.presentation import reporting_context
from uair_node.network.scp import Rejection
from uair_node.network.store_status import StoreStatus

_ASKS_FOR = {
    Verb.STORE: "a series to be segmented",
    Verb.PICK: "the next round, which starts from the sent object",
    Verb.ACCEPT: "the end of the case, with the sent object as its result",
    Verb.REJECT: "four other candidates",
    Verb.START: "a round from another system's segmentation",
}

_STATUS_MEANING = {
    StoreStatus.SUCCESS: "on disk, synced, and recorded",
    StoreStatus.ELEMENTS_DISCARDED: "not kept: an object of a class that no case can use, as configured. "
    "Not kept: a report, Key Object or presentation state that makes no request or is refused",
    StoreStatus.PROCESSING_FAILURE: "temporary: the database cannot be used",
    StoreStatus.OUT_OF_RESOURCES: "temporary: too little disk space or memory",
    StoreStatus.SOP_CLASS_MISMATCH: "data set and request state different UIDs",
    StoreStatus.CANNOT_UNDERSTAND: "not readable, or too large",
    StoreStatus.INTERNAL_ERROR: "a defect of the node",
}


def conformance_statement(settings: Settings) -> str:
    """Return the conformance statement as Markdown. AE titles, port and limits come from `settings`."""
    parts = [
        _introduction(),
        _roles(),
        _ae_titles(settings.node),
        _transfer_syntaxes(),
        _storage_classes(settings.intake),
        _statuses(),
        _policy(settings.node),
        _security(),
    ]
    return "\n".join(parts)


def _introduction() -> str:
    return f"""# DICOM conformance statement

UAIR node {__version__}. Research software, not a medical device. `uair conformance` prints it. AE titles,
port and limits come from the configuration, all other statements from the code.

Implementation Class UID {AE().implementation_class_uid}, version {AE().implementation_version_name}.
"""


def _roles() -> str:
    sent = ", ".join(_name(sop_class) for sop_class in SENT_SOP_CLASSES)
    commitment = _name(StorageCommitmentPushModel)
    rows = [
        ("Storage SCP", "all storage SOP classes, see below", "all of the table below"),
        ("Storage SCU", sent, ", ".join(_name(syntax) for syntax in SENT_TRANSFER_SYNTAXES)),
        ("Verification SCP and SCU", _name(Verification), "as in storage"),
        (
            "Storage Commitment SCU",
            f"{commitment}; the report is accepted on the same association or on a new association",
            ", ".join(_name(syntax) for syntax in reporting_context().transfer_syntax),
        ),
        (
            "Query/Retrieve SCU",
            f"{_name(StudyRootQueryRetrieveInformationModelFind)}, "
            f"{_name(StudyRootQueryRetrieveInformationModelGet)}; where `results.prior_from` or "
            "`start.found_in` is set",
            ", ".join(_name(syntax) for syntax in SENT_TRANSFER_SYNTAXES),
        ),
        ("QIDO-RS and WADO-RS user agent", "segmentations, as above", "as retrieved"),
        ("STOW-RS user agent", sent, _name(SENT_TRANSFER_SYNTAXES[0])),
    ]
    return "## Roles\n\n" + _table(("role", "SOP classes", "transfer syntaxes"), rows)


def _ae_titles(node: NodeSection) -> str:
    rows = [
        (f"`{title}`", _ASKS_FOR[verb], "all storage classes" if verb is Verb.STORE else "selections")
        for title, verb in node.ae_titles.by_title().items()
    ]
    selections = "".join(f"- {name}\n" for name in sorted(map(_name, SELECTION_SOP_CLASSES)))
    return (
        f"## Called AE titles, port {node.port}\n\n"
        + _table(("AE title", "asks for", "takes"), rows)
        + f"\nSelections:\n\n{selections}"
    )


def _transfer_syntaxes() -> str:
    rows = [(_name(syntax), syntax) for syntax in transfer_syntaxes()]
    return (
        "## Transfer syntaxes of the Storage SCP\n\n"
        "The node accepts the transfer syntaxes that the installed decoders can read, in the sender's "
        "order.\n\n" + _table(("name", "UID"), rows)
    )


def _storage_classes(intake: IntakeSection) -> str:
    profiles = [
        (
            f"`{profile.name}`",
            profile.title,
            ", ".join(sorted(map(_name, profile.sop_classes))),
            "yes" if profile in intake.modalities else "no",
        )
        for profile in PROFILES.values()
    ]
    classes = sorted(sop_classes() - {str(Verification)}, key=_name)
    rows = [(_name(sop_class), sop_class) for sop_class in classes]
    return (
        "## SOP classes of the Storage SCP\n\n"
        "The node segments the kinds of series that `intake.profiles` names. All classes are accepted on "
        "every AE title. So are private classes, and storage classes that are newer than this list:\n\n"
        + _table(("profile", "series", "SOP classes", "segmented"), profiles)
        + "\nFrames count as slices, and results name them by Referenced Frame Number. A series that is "
        "not segmented is kept. `uair cases` shows the code of the fault and a remedy.\n\n"
        + _table(("name", "UID"), rows)
    )


def _statuses() -> str:
    rows = [(f"{status:04X}", _STATUS_MEANING[status]) for status in StoreStatus]
    return "## C-STORE statuses\n\n" + _table(("status", "meaning"), rows)


def _policy(node: NodeSection) -> str:
    reasons = [
        (
            "/".join(map(str, rejection.value)),
            rejection.name.lower().replace("_", " ").replace(" ae ", " AE title "),
        )
        for rejection in Rejection
    ]
    limits = [
        ("associations served at a time", str(node.max_associations)),
        ("longest wait of a further association, before it is rejected", f"{node.wait_s:g} s"),
        ("maximum PDU length", f"{node.max_pdu_bytes} bytes"),
        ("maximum instance", f"{node.max_instance_bytes} bytes"),
        ("instances received at a time", f"{node.in_flight_bytes} bytes"),
        ("longest silence", f"{node.idle_timeout_s:g} s"),
        ("longest association", f"{node.association_timeout_s:g} s"),
        ("asynchronous operations", "none (window 1/1)"),
    ]
    return (
        "## Association policy\n\n"
        "An association is admitted by a rule for the verb that matches calling AE title, network and "
        "certificate.\n\n"
        + _table(("A-ASSOCIATE-RJ result/source/reason", "because"), reasons)
        + "\n"
        + _table(("limit", "value"), limits)
        + "\nExtended negotiation: SCP/SCU role selection, for storage commitment reports and C-GET. No user "
        "identity, no SOP class extended negotiation, no relational queries.\n"
    )


def _security() -> str:
    suites = [(suite, "1.2") for suite in TLS_1_2_SUITES] + [(suite, "1.3") for suite in TLS_1_3_SUITES]
    return (
        f"## Security profile\n\n{TLS_PROFILE}, as server and as client. Certificates of peers are verified "
        "and can be bound to AE titles.\n\n" + _table(("suite", "TLS"), suites)
    )


_NEWER_NAMES = {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, UID)}
"""SOP Class UID -> name, for classes that are newer than pydicom's dictionary."""


def _name(uid: str) -> str:
    known = UID(uid).name
    return known if known != uid else _NEWER_NAMES.get(uid, uid)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
