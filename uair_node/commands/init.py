"""`uair init`: a configuration to start from."""

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
        bool, typer.Option("--department", help="With broker, database, router and PACS; else one machine.")
    ] = False,
) -> None:
    """Write an example configuration with comments. No existing file is overwritten.

    Raises
    ------
    InputError
        ``file-exists``, ``file-unwritable``.
    """
    text = resources.files("dicom_config").joinpath("hospital.yaml" if department else "embedded.yaml")
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(text.read_text("utf-8"))
    except FileExistsError:
        raise InputError("file-exists", f"{file} exists.", "Name another file.") from None
    except OSError as error:
        sentence = f"{file} cannot be written ({error.strerror})."
        raise InputError("file-unwritable", sentence, "Name a folder that exists and is yours.") from None
    console.print(f"{file}: edit it, then `uair check --config {file}`.", highlight=False)
