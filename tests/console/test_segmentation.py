"""The page of a segmentation: what is shown, from which pixels, with which numbers, of which patient."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from highdicom.sr import Measurement, srread
from PIL import Image
from pydicom import dcmread
from starlette.testclient import TestClient

from dicom_config import codes
from dicom_config.model import Verb
from tests.support.console import VIEWER, Site, console_site
from tests.support.offered import final_path
from tests.support.studies import BEFORE, SHAPE, node_in, send_study
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, Round
from uair_node.dicom.volume import read_series
from uair_node.findings.record import as_csv, load_findings
from uair_node.results.round_inputs import ACCEPTED_FILE, CANDIDATES_FILE, FINDINGS_FILE
from uair_node.storage.artifacts import TargetParts, load_candidates, save_candidates

PAGE = "/cases/2/segmentation"
ROUND = "artifacts/case-000002/round-02.made"


def _section(page: str, anchor: str) -> str:
    return page.split(f'<section id="{anchor}"')[1].split("</section>")[0]


def _studies(client: TestClient, case: int) -> str:
    return _section(client.get(f"/cases/{case}/segmentation").text, "studies")


def _text(markup: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", markup)).strip()


def test_the_page_shows_what_was_accepted_and_how_it_came_about(reader: TestClient) -> None:
    page = reader.get(PAGE)
    assert page.status_code == 200
    assert 'aria-current="true"><kbd>0</kbd> accepted' in page.text
    assert page.text.count("thumbnail.jpg") == 8, "four candidates of two rounds"
    taken = re.findall(r'<li class="taken">.*?rounds/(\d)/(\d)/.*?✓</span> ([^<]+)<', page.text, re.DOTALL)
    assert taken == [("2", "1", "accepted"), ("2", "2", "lesion 1 taken"), ("1", "3", "picked")]


def test_a_part_is_pictured_where_the_candidates_differ_in_it(studies: Site, reader: TestClient) -> None:
    path = studies.context.store.absolute(f"{ROUND}/{CANDIDATES_FILE}")
    before = load_candidates(path)
    middle = np.argwhere(before[0].labels == 2).mean(axis=0)
    apart = np.array([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    parts = {2: TargetParts(("lower", "upper"), middle + apart, np.array([5.0, 3.0, 3.0]))}
    save_candidates(path, [replace(candidate, parts=parts) for candidate in before])
    pictures = {
        (k, part): reader.get(f"/cases/2/rounds/2/{k}/parts/2/{part}.jpg") for k in (1, 4) for part in (0, 1)
    }
    for picture in pictures.values():
        assert picture.status_code == 200
        assert Image.open(io.BytesIO(picture.content)).width > 100
    assert pictures[1, 1].content != pictures[4, 1].content, "the candidates differ there"
    for missing in ("2/3", "3/1"):
        assert reader.get(f"/cases/2/rounds/2/1/parts/{missing}.jpg").status_code == 404


def test_round_candidate_and_slice_are_chosen_by_the_address(reader: TestClient) -> None:
    page = reader.get(f"{PAGE}?round=1&candidate=4&slice=7").text
    assert 'aria-current="true"><kbd>4</kbd>' in page
    assert "/cases/2/rounds/1/4/slices/7.jpg" in page
    for nonsense in ("?round=9&candidate=9&slice=9999999", "?round=x&candidate=%00&slice=-1", "?slice=²"):
        assert reader.get(f"{PAGE}{nonsense}").status_code == 200


def test_what_there_is_not_is_said(reader: TestClient) -> None:
    rounds = "/cases/2/rounds"
    for address, status in {
        f"{rounds}/2/0/slices/1.jpg": 200,
        f"{rounds}/2/0/slices/{SHAPE[0]}.jpg": 200,
        f"{rounds}/2/0/slices/0.jpg": 404,
        f"{rounds}/2/0/slices/{SHAPE[0] + 1}.jpg": 404,
        f"{rounds}/1/0/solid.jpg": 404,
        f"{rounds}/3/1/solid.jpg": 404,
        f"{rounds}/2/5/surfaces.glb": 404,
        "/cases/9/rounds/1/1/surfaces.glb": 404,
        "/cases/4/segmentation": 200,
    }.items():
        assert reader.get(address).status_code == status, address
    page = reader.get("/cases/4/segmentation").text
    assert "Measured is what a reader accepts" in page
    assert "waits for an answer" in page


def test_a_slice_has_the_outlines_of_its_candidate(studies: Site, reader: TestClient) -> None:
    """Lesion 1's lowest slice: candidate 1 has it, candidate 4 has not; the rest of the slice is the same."""
    view = studies.console.views.view(2, 2)
    number = int(np.flatnonzero((view.of(1) == 2).any(axis=(1, 2)))[0]) + view.box[0].start + 1

    def picture(k: int) -> np.ndarray:
        data = reader.get(f"/cases/2/rounds/2/{k}/slices/{number}.jpg").content
        return np.asarray(Image.open(io.BytesIO(data)), int)

    def outlined(pixels: np.ndarray) -> int:
        return int((abs(pixels - codes.lesion_colour(1).rgb) < 40).all(axis=-1).sum())

    has, has_not = picture(1), picture(4)
    assert has.shape == has_not.shape
    assert outlined(has) > 50
    assert outlined(has_not) == 0
    assert 0 < (abs(has - has_not) > 60).any(axis=-1).mean() < 0.2


def test_slices_and_labels_are_those_of_the_whole_volume(studies: Site) -> None:
    """Against the series decoded at once and turned by the code that the engine uses."""
    view = studies.console.views.view(2, 2)
    whole = read_series([slice_.path for slice_ in view.grid.slices]).canonical()
    accepted = load_candidates(final_path(studies.context, 2, ACCEPTED_FILE))[0].labels
    for n in (0, 9, 17, SHAPE[0] - 1):
        assert np.array_equal(view.values(n), whole.array[n])
        assert np.array_equal(view.plane(0, n), whole.from_source(accepted)[n])
    assert np.array_equal(view.on_source_grid(0), accepted)


def test_the_table_has_the_numbers_of_csv_and_report(studies: Site, reader: TestClient) -> None:
    table = reader.get(PAGE).text.split('id="all-numbers"')[1].split("</table>")[0]
    rows = []
    for key, row in re.findall(r'<tr role="row" data-key="(\w+)">(.*?)</tr>', table, re.DOTALL):
        target, _, value, interval, _ = map(_text, re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL))
        bounds = [] if interval == "–" else [float(bound) for bound in interval.split(" to ")]
        rows.append((target, key, float(value), bounds))
    findings = load_findings(final_path(studies.context, 2, FINDINGS_FILE))
    assert findings is not None
    assert rows == [
        (
            line["target"],
            line["quantity"],
            float(line["value"]),
            [float(line[bound]) for bound in ("low", "high") if line[bound]],
        )
        for line in csv.DictReader(io.StringIO(as_csv(findings)))
    ]
    assert sum(bool(bounds) for *_, bounds in rows) > 10, "some have intervals"
    content = srread(final_path(studies.context, 2, "UAIR-REPORT.dcm")).content
    for lesion in findings.lesions:
        (group,) = content.get_volumetric_roi_measurement_groups(tracking_uid=lesion.tracking_uid)
        shown = [(value, bounds) for target, _, value, bounds in rows if target == f"lesion {lesion.number}"]
        assert len(shown) > 10
        stated = group.get_measurements()[: len(shown)]
        assert [float(value.value) for value in stated] == [value for value, _ in shown]
        for number, (value, bounds) in zip(stated, shown, strict=True):
            assert _interval(number, value) == pytest.approx(bounds, abs=1e-6)


def _interval(measurement: Measurement, value: float) -> list[float]:
    """The bounds from a measurement's lower and upper range of uncertainty (TID 310)."""
    ranges = {
        part.ConceptNameCodeSequence[0].CodeValue: float(part.MeasuredValueSequence[0].NumericValue)
        for part in measurement[0].get("ContentSequence", ())
        if part.ValueType == "NUM"
    }
    return [value - ranges["371885007"], value + ranges["371886008"]] if ranges else []


def test_the_time_line_shows_this_patient_only_and_is_recorded(studies: Site, reader: TestClient) -> None:
    section = _studies(reader, 2)
    assert re.findall(r"/cases/(\d)/segmentation", section) == ["1"]
    assert re.findall(r"20\d\d-\d\d-\d\d", section) == ["2026-01-05", "2026-02-05"]
    assert section.count("<circle") == 2
    rows = re.findall(r"<tr role=\"row\">(.*?)</tr>", section.split("Since the study before")[1], re.DOTALL)
    grown, kept = (
        [_text(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows[1:]
    )
    assert "31 days" in section
    assert "PD" in section, "lesion 1 grew from 12 to 16 mm of radius"
    assert (grown[:2], kept[:2]) == (["1", "matched"], ["2", "matched"])
    assert int(grown[4]) > 80
    assert (grown[5], kept[5]) == ("yes", "yes")
    with studies.context.database.transaction() as session:
        rows = session.query(AccessRecord).filter_by(action="view time line").all()
        assert [row.subject for row in rows] == ["cases 1"]
    assert "No other accepted study" in _studies(reader, 3)
    assert "/cases/" not in _studies(reader, 3)
    assert re.findall(r"/cases/(\d)/segmentation", _studies(reader, 1)) == ["2"], "the later one, too"


def test_an_earlier_study_that_is_not_here_stands_in_the_time_line(studies: Site, reader: TestClient) -> None:
    """As the comparison with it tells: one from an archive, or one whose files are gone."""
    with studies.context.database.transaction() as session:
        session.get_one(Case, 1).patient_key = ""
    section = _studies(reader, 2)
    assert "/cases/1/" not in section
    assert "not here" in section
    assert re.findall(r"20\d\d-\d\d-\d\d", section) == ["2026-01-05", "2026-02-05"]
    assert section.count("<circle") == 2


def test_a_birth_date_that_contradicts_is_another_patient(studies: Site, reader: TestClient) -> None:
    for number, born in ((1, "19500101"), (2, "19600101")):
        with studies.context.database.transaction() as session:
            path = studies.context.store.absolute(session.get_one(Case, number).instances[0].path)
        header = dcmread(path)
        header.PatientBirthDate = born
        header.save_as(path)
    assert "No other accepted study" in _studies(reader, 1)
    assert "/cases/1/" not in _studies(reader, 2)


def test_browsers_keep_no_picture(reader: TestClient) -> None:
    for address in ("slices/3.jpg", "thumbnail.jpg", "solid.jpg", "surfaces.glb", "export/stl"):
        answer = reader.get(f"/cases/2/rounds/2/1/{address}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"


def test_what_retention_deleted_is_said(studies: Site, reader: TestClient) -> None:
    assert reader.get(PAGE).status_code == 200
    with studies.context.database.transaction() as session:
        for round_ in session.query(Round).filter_by(case_id=2):
            round_.artifacts = ""
    assert reader.get(PAGE).status_code == 404
    answer = reader.get("/cases/2/rounds/2/0/solid.jpg")
    assert answer.status_code == 404
    assert "not kept any more" in answer.text
    assert "Nothing to look at" in reader.get("/cases/2").text


def test_files_that_are_gone_are_said(studies: Site, reader: TestClient) -> None:
    studies.context.store.absolute(f"{ROUND}/{CANDIDATES_FILE}").unlink()
    answer = reader.get("/cases/2/rounds/2/1/solid.jpg")
    assert answer.status_code == 404
    assert "not kept any more" in answer.text


def test_a_case_accepted_before_its_labels_were_kept_shows_its_candidates(
    studies: Site, reader: TestClient
) -> None:
    for name in (ACCEPTED_FILE, FINDINGS_FILE):
        final_path(studies.context, 2, name).unlink()
    page = reader.get(PAGE)
    assert page.status_code == 200
    assert 'aria-current="true"><kbd>1</kbd>' in page.text
    assert "/rounds/2/0/" not in page.text


def test_mr_is_shown_in_units_of_its_own(tmp_path: Path) -> None:
    intake = {"quiet_s": 0.01, "partial_edit_wait_s": 0.01, "min_free_bytes": 0, "profiles": ["mr-t1"]}
    with node_in(tmp_path, intake=intake) as context:
        accept = [(Verb.ACCEPT, ReaderChoice(1))]
        send_study(context, tmp_path / "mr", BEFORE, accept, patient="P1", day="20260105", mr=True)
        site = console_site(context)
        with site.visitor() as client:
            site.enter(client, VIEWER)
            table = _section(client.get("/cases/1/segmentation").text, "measurements")
            assert "mean signal" in table
            assert " a.u." in table
            assert "HU" not in table
            assert client.get("/cases/1/rounds/1/0/slices/9.jpg").status_code == 200


@pytest.mark.parametrize("case", [2, 4])
def test_the_case_links_to_it(reader: TestClient, case: int) -> None:
    assert f'href="/cases/{case}/segmentation"' in reader.get(f"/cases/{case}").text
