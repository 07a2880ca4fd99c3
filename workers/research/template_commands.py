"""`uair templates …`: manage the scans with which the localizer `templates` compares a new scan.

The commands import torch themselves, so other commands of `uair` start quickly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

from dicom_config.model import LocalizerName, Settings, load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.tables import Row, print_rows
from uair_node.logs import set_up_logging

console = Console()
templates_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Template scans of the localizer `templates`."
)


@templates_app.command()
def add(
    series: Annotated[Path, typer.Argument(help="Folder with a CT series that shows the whole liver.")],
    segmentation: Annotated[
        Path,
        typer.Argument(help="The liver's segmentation: DICOM SEG, DICOM masks (folder, zip) or NIfTI."),
    ],
    config: ConfigOption = None,
) -> None:
    """Make a template of a CT series and the segmentation of its liver.

    The template has coordinates, features and a mask at 3 mm. It has no density and no patient data.
    """
    from workers.models.registry import choose_device
    from workers.models.template_localizer import CoordinateEncoder, make_template
    from workers.models.template_store import StoredTemplate, TemplateFolder
    from workers.research.evaluation.discover import find_cases

    set_up_logging(quiet=True)
    settings = load_settings(config)
    (source,) = find_cases([series], segmentation)
    case = source.load()
    encoder = CoordinateEncoder(choose_device(settings.engine.device))
    template = make_template(encoder, case.hu, case.spacing_mm, case.truth > 0)
    stored = StoredTemplate(template, encoder.digest, case.spacing_mm)
    TemplateFolder(_folder(settings)).add(stored)
    console.print(f"Template {stored.name}: liver of {stored.liver_ml:.0f} ml.", highlight=False)


@templates_app.command("list")
def list_(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List the templates in use: the site's own, or the packaged ones if the site has none."""
    from workers.models.template_store import TemplateFolder, packaged_templates
    from workers.uair.templates import GRID_MM

    set_up_logging(quiet=True)
    own = TemplateFolder(_folder(load_settings(config))).stored()
    found: list[dict[str, Any]] = [
        {
            "template": template.name,
            "from": "site" if own else "package",
            "liver_ml": round(template.liver_ml, 1),
            "box_mm": [round(GRID_MM * n) for n in template.template.mask.shape],
            "spacing_mm": [round(step, 3) for step in template.spacing_mm],
            "network": template.network,
        }
        for template in own or packaged_templates().stored()
    ]
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    rows = []
    for template in found:
        sizes = (" x ".join(f"{n:g}" for n in template[key]) for key in ("box_mm", "spacing_mm"))
        rows.append(Row((template["template"], template["from"], f"{template['liver_ml']:.0f}", *sizes)))
    heads = ("template", "from", "liver ml", "box mm (z, y, x)", "voxels mm (z, y, x)")
    print_rows(console, heads, rows)


@templates_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the template, see `uair templates list`.")],
    config: ConfigOption = None,
) -> None:
    """Remove one of the site's own templates."""
    from workers.models.template_store import TemplateFolder

    set_up_logging(quiet=True)
    TemplateFolder(_folder(load_settings(config))).remove(name)
    console.print(f"Template {name} is removed.", highlight=False)


@templates_app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder for the templates.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of a coordinate network (`uair train coordinates`). Default: the packaged weights."
        ),
    ] = None,
) -> None:
    """Write templates of five phantoms for a coordinate network.

    The packaged templates come from the same phantoms.
    """
    from workers.research.training.phantom_templates import write_phantom_templates

    set_up_logging(quiet=True)
    write_phantom_templates(weights, folder)


@templates_app.command()
def compare(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders or NIfTI files with CT and truth, as for `uair evaluate`."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="True masks of the only CT, if they do not lie beside the CT.")
    ] = None,
    phantoms: Annotated[
        int, typer.Option(min=1, help="Number of phantoms for the comparison, if no data are given.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the first phantom.")] = 9001,
    config: ConfigOption = None,
) -> None:
    """Compare the localizers `learned` and `templates` on cases with known liver, or on phantoms."""
    from workers.models.registry import build_localizer, choose_device
    from workers.phantoms import PLAIN
    from workers.research.evaluation.discover import find_cases
    from workers.research.evaluation.evaluated_cases import PhantomSource
    from workers.research.evaluation.localization import score_localizer, table_of

    set_up_logging(quiet=True)
    settings = load_settings(config)
    device = choose_device(settings.engine.device)
    names: tuple[LocalizerName, ...] = get_args(LocalizerName)
    localizers = [build_localizer(name, _folder(settings), device) for name in names]
    sources = (
        find_cases(data, masks) if data else [PhantomSource(seed + n, setting=PLAIN) for n in range(phantoms)]
    )
    scores = []
    for case in (source.load() for source in sources):
        scores += [
            score_localizer(name, localizer, case.name, case.hu, case.spacing_mm, case.truth > 0)
            for name, localizer in zip(names, localizers, strict=True)
        ]
    console.print(table_of(scores), highlight=False, soft_wrap=True)


def _folder(settings: Settings) -> Path:
    return settings.engine.templates or settings.data_dir / "templates"
