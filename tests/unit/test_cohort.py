"""`uair report`: what accepted cases of a period say together; nothing of a patient unless asked for."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.cases import new_result, publish_round, ready_case
from tests.support.intake import context_in
from uair_node.cases import lifecycle
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, ResultKind, Selection, SelectionOutcome, utc_now
from uair_node.context import Context
from uair_node.findings.record import Findings, Value, save_findings
from uair_node.operations.case_findings import findings_of
from uair_node.operations.cohort import as_csv, collect
from uair_node.operations.cohort_page import cohort_page
from uair_node.operations.lesion_recall import LesionTally
from uair_node.results.priors import keep_accepted
from uair_node.results.round_inputs import FINDINGS_FILE
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.artifacts import StoredCandidate

TODAY = utc_now().date()


def _accepted(context: Context, uid: str, reader: str, *picks: int, ml: float, lesion_rows: int = 3) -> None:
    """A case that `reader` accepted with the last of `picks`."""
    with context.database.transaction() as session:
        case = ready_case(session, uid)
        for number, k in enumerate(picks, start=1):
            publish_round(session, case)
            verb = Verb.ACCEPT if number == len(picks) else Verb.PICK
            select_by_number(session, Evidence(verb, "seg", calling_ae=reader), case, ReaderChoice(k))
            session.flush()
        folder = context.store.round_folder(case.id, len(picks), "made")
        final = replace(new_result(case, len(picks), picks[-1]), kind=ResultKind.FINAL)
        path = context.store.relative(folder / "final.dcm")
        final = replace(final, sop_instance_uid=f"{uid}.{case.id}.9", path=path)
        lifecycle.add_results(session, case.current_round, [final])
    liver = {"liver_ml": Value(ml), "lesions": Value(1), "lesions_ml": Value(ml / 100)}
    save_findings(folder / FINDINGS_FILE, Findings(liver, {}, ()))
    labels = np.ones((4, 8, 8), np.uint8)
    labels[1, :lesion_rows] = 2
    keep_accepted(folder, StoredCandidate(1, labels, ""))


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as made:
        _accepted(made, "1.2.3.1", "READER_A", 2, 3, ml=1500.0)
        _accepted(made, "1.2.3.2", "READER_B", 1, ml=1300.0)
        yield made


def test_a_line_for_each_accepted_case(context: Context) -> None:
    with context.database.transaction() as session:
        ready_case(session, "1.2.3.9")  # not accepted
    rows = list(csv.DictReader(io.StringIO(as_csv(collect(context, TODAY, TODAY)))))
    assert [row["reader"] for row in rows] == ["READER_A", "READER_B"]
    assert [(row["rounds"], row["picks"]) for row in rows] == [("2", "2"), ("1", "1")]
    assert [row["liver_ml"] for row in rows] == ["1500.0", "1300.0"]
    assert all(float(row["hours_to_accept"]) < 0.1 for row in rows)


def test_other_days_are_another_period(context: Context) -> None:
    tomorrow = TODAY + timedelta(days=1)
    assert collect(context, tomorrow, tomorrow).cases == ()
    assert "No case was accepted" in cohort_page(collect(context, tomorrow, tomorrow))
    with pytest.raises(InputError, match="ends before it begins"):
        collect(context, TODAY, TODAY - timedelta(days=1))


def test_what_identifies_is_there_only_if_asked_for(context: Context) -> None:
    plain, asked = collect(context, TODAY, TODAY), collect(context, TODAY, TODAY, identifying=True)
    for text in (as_csv(plain), cohort_page(plain)):
        assert "1.2.3.1" not in text
        assert "A1" not in text
    assert "1.2.3.1" in as_csv(asked)
    assert "1.2.3.1" in cohort_page(asked)


def test_readers_who_accepted_the_same_series_are_compared(context: Context) -> None:
    _accepted(context, "1.2.3.1", "READER_C", 2, ml=1500.0, lesion_rows=5)
    found = collect(context, TODAY, TODAY).agreement
    assert found.liver_dice == (1.0,)
    assert found.lesion_dice == (pytest.approx(2 * 3 / (3 + 5)),)


def test_several_answers_to_one_round_are_compared(context: Context) -> None:
    assert collect(context, TODAY, TODAY).agreement.asked == 0
    with context.database.transaction() as session:
        case = session.query(Case).first()
        for picked, reader in ((2, "READER_B"), (2, "READER_A")):
            session.add(
                Selection(
                    case_id=case.id,
                    round_number=1,
                    verb=Verb.PICK,
                    picked=picked,
                    mechanism="seg",
                    calling_ae=reader,
                    outcome=SelectionOutcome.REPEATED,
                )
            )
    found = collect(context, TODAY, TODAY).agreement
    assert (found.same_pick, found.asked) == (1, 1)
    with context.database.transaction() as session:
        case = session.query(Case).order_by(Case.id.desc()).first()
        said = lifecycle.effective_selection(session, case, 1)
        assert said is not None
        row = {"case_id": case.id, "round_number": 1, "verb": Verb.PICK, "picked": 4, "mechanism": "seg"}
        session.add(Selection(**row, calling_ae="OTHER", outcome=SelectionOutcome.REFUSED))
    found = collect(context, TODAY, TODAY).agreement
    assert (found.same_pick, found.asked) == (1, 2)


def test_the_page_stands_alone(context: Context) -> None:
    page = cohort_page(collect(context, TODAY, TODAY))
    assert page.count("<svg") == 1
    assert "READER_A" in page
    assert not re.search(r"""(src|href)=["']http""", page)


def test_the_command_writes_both_files(context: Context, tmp_path: Path) -> None:
    from uair_node.cli import app

    config = tmp_path / "site.yaml"
    config.write_text(
        f"data_dir: {context.store.root}\ndatabase: {{url: 'sqlite:///{tmp_path / 'uair.sqlite'}'}}\n"
    )
    day = date.isoformat(TODAY)
    output = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["report", "-c", str(config), "-o", str(output), "--from", day, "--to", day]
    )
    assert done.exit_code == 0, done.output
    assert len((output / "cohort.csv").read_text().splitlines()) == 3
    assert (output / "cohort.html").read_text().startswith("<!doctype html>")


def test_one_case_s_measurements_are_printed(context: Context, tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(
        f"data_dir: {context.store.root}\ndatabase: {{url: 'sqlite:///{tmp_path / 'uair.sqlite'}'}}\n"
    )
    from uair_node.cli import app

    table = CliRunner().invoke(app, ["case", "measurements", "1", "-c", str(config)])
    assert table.stdout.splitlines()[1] == "liver,,liver_ml,1500.0,,,ml"
    record = CliRunner().invoke(app, ["case", "measurements", "1", "--json", "-c", str(config)])
    assert json.loads(record.stdout)["liver"]["liver_ml"]["value"] == 1500.0
    with context.database.transaction() as session:
        other = ready_case(session, "1.2.3.9").id
    with pytest.raises(InputError, match="no measurements"):
        findings_of(context, other)


def test_the_page_and_the_table_say_which_lesions_were_found(context: Context) -> None:
    cohort = collect(context, TODAY, TODAY)
    seen = LesionTally(found=3, marked=1, drawn=0, dropped=2)
    told = replace(cohort, cases=(replace(cohort.cases[0], seen=seen),))
    page = cohort_page(told)
    assert "<td>accepted lesions that round 1 offered (recall)</td><td>3 (75 %)</td>" in page
    assert "<td>added by a mark</td><td>1</td>" in page
    (row, *_) = csv.DictReader(io.StringIO(as_csv(told)))
    names = ("lesions_found", "lesions_marked", "lesions_drawn", "lesions_dropped")
    assert [row[name] for name in names] == ["3", "1", "0", "2"]
