"""`uair renew-patient-keys`: make a new secret after the old one was lost or became known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydicom import dcmread
from sqlalchemy import select

from uair_node.cases.tables import Case
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import console, context_of
from uair_node.context import Context
from uair_node.dicom.readers import hash_patient_id
from uair_node.patient_keys import replace_patient_keys


def renew_patient_keys(
    config: ConfigOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm that all nodes are stopped. Then the command does not ask.")
    ] = False,
) -> None:
    """Replace the secret of the patient keys while all nodes are stopped. New keys are made from the images.

    If retention has deleted the images of a case, then the case loses its key. Later studies are no longer
    compared with it.
    """
    context = context_of(config)
    if not yes:
        typer.confirm("Are all nodes of this installation stopped?", abort=True)
    digests = _patient_digests(context)
    configured = context.settings.intake.patient_secret_file
    lost = replace_patient_keys(context.database, context.store.root, configured, digests)
    console.print(
        f"{len(digests)} cases have a new patient key. {lost} cases lost their patient key, because the node "
        "keeps no image of them."
    )


def _patient_digests(context: Context) -> dict[int, str]:
    """Return case id -> digest of the Patient ID, for each case with a key whose images still exist.

    The Patient ID comes from an image of the case.
    """
    with context.database.reading() as session:
        cases = session.scalars(select(Case).where(Case.patient_key != ""))
        paths = {case.id: case.instances[0].path for case in cases if case.instances}
    found = {}
    for case_id, path in paths.items():
        file = context.store.fetch_if_kept(path)
        if file is not None:
            found[case_id] = _patient_digest(file)
    return found


def _patient_digest(file: Path) -> str:
    header = dcmread(file, specific_tags=["PatientID"], stop_before_pixels=True)
    return hash_patient_id(str(header.get("PatientID") or ""))
