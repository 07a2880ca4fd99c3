"""`uair init`: write an example configuration."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from dicom_config.errors import InputError
from uair_node.commands.options import console


def init(
    file: Annotated[Path, typer.Argument(help="The YAML file to write.")],
    department: Annotated[
        bool,
        typer.Option(
            "--department", help="Configuration with broker, database, router and PACS. Default: one machine."
        ),
    ] = False,
) -> None:
    """Write an example configuration with comments. No existing file is overwritten."""
    text = resources.files("dicom_config").joinpath("hospital.yaml" if department else "embedded.yaml")
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(text.read_text("utf-8"))
    except FileExistsError:
        raise InputError("file-exists", f"{file} exists.", "Name another file.") from None
    except OSError as error:
        sentence = f"{file} cannot be written ({error.strerror})."
        remedy = "Name an existing folder that you can write to."
        raise InputError("file-unwritable", sentence, remedy) from None
    console.print(f"{file} is written. Edit it, then run `uair check --config {file}`.", highlight=False)
