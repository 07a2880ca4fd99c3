"""The command line: what an administrator asks and what scripts read."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dicom_config.errors import ConfigError, InputError, TransientError
from dicom_config.model import load_settings
from tests.support.cases import publish_round, ready_case, receiving_case
from uair_node.cases import lifecycle
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.cli import app
from uair_node.context import open_context
from uair_node.dicom.gate_codes import gate_error
from uair_node.operations.checks.finding import fault

_UAIR = str(Path(sys.executable).with_name("uair"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose database holds a case that awaits its reader, and a rejected one."""
    path = tmp_path / "site.yaml"
    path.write_text("data_dir: data\nintake: {min_free_bytes: 0}\n", "utf-8")
    context = open_context(load_settings(path), migrate=True)
    with context.database.transaction() as session:
        publish_round(session, ready_case(session, "1.2.3"))
        case = receiving_case(session, "1.2.4")
        lifecycle.reject_input(session, case, gate_error("no-rescale"))
    context.database.close()
    return path


def _run(config: Path, *arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    assert ended.exit_code == code, ended.output
    return ended.output


def test_the_environment_names_the_configuration(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAIR_CONFIG", str(config))
    ended = CliRunner().invoke(app, ["cases", "--json"])
    assert [load["case"] for load in json.loads(ended.output)] == [2, 1]


def test_a_database_without_tables_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who forgot --config looks at another database than intended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UAIR_CONFIG", raising=False)
    error = CliRunner().invoke(app, ["cases"]).exception
    assert isinstance(error, ConfigError)
    assert error.code == "migration-due"
    assert str(tmp_path) in error.sentence
    assert "--config" in error.remedy


def test_a_command_that_reads_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["cases"], ["case", "show", "1"], ["tidy", "--dry-run"], ["preference", "show"]):
        error = CliRunner().invoke(app, arguments).exception
        assert getattr(error, "code", "") == "migration-due"
    assert CliRunner().invoke(app, ["check"]).exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--department"]])
def test_init_writes_a_configuration_that_loads_and_overwrites_none(
    tmp_path: Path, options: list[str]
) -> None:
    path = tmp_path / "site.yaml"
    assert CliRunner().invoke(app, ["init", str(path), *options]).exit_code == 0
    assert bool(load_settings(path).destinations) == bool(options)
    path.write_text("mine")
    again = CliRunner().invoke(app, ["init", str(path)])
    assert getattr(again.exception, "code", "") == "file-exists"
    assert path.read_text() == "mine"


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("database: {url: 'postgresql+psycopg://uair@127.0.0.1:1/uair'}\n", "utf-8")
    error = CliRunner().invoke(app, ["cases", "--config", str(path)]).exception
    assert isinstance(error, TransientError)
    assert error.code == "database-unavailable"


def test_a_console_that_does_not_start_claims_no_address(config: Path) -> None:
    ended = CliRunner().invoke(app, ["console", "--config", str(config)])
    assert getattr(ended.exception, "code", "") == "console-no-users"
    assert "http" not in ended.output


def test_errors_pass_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(InputError("no-such-case", "There is none.", "See `uair cases`.")))
    assert (type(error), error.code, error.remedy) == (InputError, "no-such-case", "See `uair cases`.")


def test_a_state_that_does_not_exist_finds_no_silence(config: Path) -> None:
    assert [load["case"] for load in json.loads(_run(config, "cases", "--json", "--state", "rejected"))] == [
        2
    ]
    assert "'rejctd'" in _run(config, "cases", "--state", "rejctd", code=2)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_shows_codes_whole(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what the documentation is searched by; nothing else is cut off, either."""
    found = fault(
        "destination pacs", "peer-refuses-class", "ConnectionRefusedError", "consumer_timeout_too_low"
    )
    monkeypatch.setattr("uair_node.commands.check.checked", lambda _: ([found], 1))
    monkeypatch.setattr("uair_node.commands.check.console", Console(width=columns))
    shown = CliRunner().invoke(app, ["check"]).output
    assert "peer-refuses-class" in shown
    assert "…" not in shown


def _state(config: Path, case_id: int) -> CaseState:
    context = open_context(load_settings(config))
    with context.database.transaction() as session:
        return session.get_one(Case, case_id).state


def test_a_lesion_is_taken_from_another_candidate(config: Path) -> None:
    for lesion, code in (("two=1", "lesion-syntax"), ("7=1", "no-such-lesion")):
        assert getattr(CliRunner().invoke(app, _pick(config, lesion)).exception, "code", "") == code
    assert "candidate 3, lesion 2 of candidate 1" in _run(config, "case", "pick", "1", "3", "--lesion", "2=1")
    shown = json.loads(_run(config, "case", "show", "1", "--json"))
    assert [(selection["picked"], selection["per_target"]) for selection in shown["selections"]] == [
        (3, {"3": 1})
    ]


def test_a_part_of_a_lesion_is_taken_from_another_candidate(config: Path) -> None:
    context = open_context(load_settings(config))
    with context.database.transaction() as session:
        session.get_one(Case, 1).rounds[-1].parts = {"3": ["upper", "left"]}
    for part, code in (("2=1", "part-syntax"), ("2:back=1", "no-such-part"), ("1:upper=1", "no-such-part")):
        asked = ["case", "pick", "1", "3", "--part", part, "--config", str(config)]
        assert getattr(CliRunner().invoke(app, asked).exception, "code", "") == code
    assert "parts of lesion 2: upper, left" in _run(config, "case", "show", "1")
    said = _run(config, "case", "pick", "1", "3", "--part", "2:upper=1")
    assert "candidate 3, upper part of lesion 2 of candidate 1" in " ".join(said.split())


def _pick(config: Path, lesion: str) -> list[str]:
    return ["case", "pick", "1", "3", "--lesion", lesion, "--config", str(config)]


def test_cases_lists_newest_first_with_reasons(config: Path) -> None:
    rows = json.loads(_run(config, "cases", "--json"))
    assert [(row["case"], row["state"], row["code"]) for row in rows] == [
        (2, "REJECTED", "no-rescale"),
        (1, "AWAITING_SELECTION", ""),
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--state", "rejected"], [2]),
        (["--search", "A1"], [1]),
        (["--search", "1.2.4"], [2]),
        (["--search", "%"], []),
    ],
)
def test_cases_are_found(config: Path, options: list[str], found: list[int]) -> None:
    assert [row["case"] for row in json.loads(_run(config, "cases", "--json", *options))] == found


def test_a_case_is_shown_with_history_and_volumes(config: Path) -> None:
    shown: dict[str, Any] = json.loads(_run(config, "case", "show", "1", "--json"))
    assert [len(round_["results"]) for round_ in shown["rounds"]] == [4]
    assert shown["history"][0]["to"] == "RECEIVING"
    assert "1000" in _run(config, "case", "show", "1")


def test_pick_and_accept_answer_for_the_reader(config: Path) -> None:
    _run(config, "case", "pick", "1", "3")
    assert _state(config, 1) == CaseState.REFINING


def test_an_unanswered_case_is_expired_and_nothing_is_cancelled_or_sent_in_vain(config: Path) -> None:
    for command in (["cancel", "1"], ["resend", "1", "pacs"], ["expire", "2"]):
        ended = CliRunner().invoke(app, ["case", *command, "--config", str(config)])
        assert getattr(ended.exception, "code", "").startswith("nothing-to-")
    _run(config, "case", "expire", "1")
    assert _state(config, 1) == CaseState.EXPIRED


def test_accept_ends_the_case(config: Path) -> None:
    _run(config, "case", "accept", "1", "2")
    assert _state(config, 1) == CaseState.ACCEPTED


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["case", "show", "99"], "no-such-case", "uair cases"),
        (["case", "pick", "1", "7"], "no-such-candidate", "1 to 4"),
        (["case", "retry", "1"], "nothing-to-retry", "only a FAILED case"),
        (["cases", "--config", "absent.yaml"], "config-missing", "existing file"),
    ],
)
def test_errors_end_with_code_and_mend_not_with_a_traceback(
    config: Path, arguments: list[str], code: str, words: str
) -> None:
    given = arguments if "--config" in arguments else [*arguments, "--config", str(config)]
    ended = subprocess.run(
        [_UAIR, *given], capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"}
    )
    assert ended.returncode == 2
    assert code in ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_commands_on_an_old_schema_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text("data_dir: data\n", "utf-8")
    ended = subprocess.run([_UAIR, "cases", "-c", str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()  # a service's log has one line for it
    assert line.startswith("migration-due: ")


def test_brackets_in_an_error_are_text(tmp_path: Path) -> None:
    missing = str(tmp_path / "[/none].yaml")
    ended = subprocess.run([_UAIR, "cases", "-c", missing], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert missing in ended.stderr


def test_check_exits_with_1_when_something_is_wrong(config: Path) -> None:
    assert "none configured" in _run(config, "check", code=1)


def test_tidy_shows_what_it_would_delete(config: Path) -> None:
    assert json.loads(_run(config, "tidy", "--dry-run", "--json")) == []
    assert "would be deleted" in _run(config, "tidy", "--dry-run")
