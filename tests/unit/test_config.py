"""The configuration: defaults, environment, and what a wrong file is answered with."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from dicom_config.errors import ConfigError
from dicom_config.model import AllowRule, Settings, Verb, load_settings

_ROOT = Path(__file__).parents[2]


def _write(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_default_is_embedded_and_admits_only_this_machine() -> None:
    settings = load_settings()
    assert settings.embedded
    assert settings.database_url.startswith("sqlite:///")
    (rule,) = settings.node.allow
    assert rule.admits(Verb.STORE, "ANY", "127.0.0.1")
    assert not rule.admits(Verb.STORE, "ANY", "192.168.1.5")


def test_the_hospital_example_is_valid_and_needs_a_broker() -> None:
    settings = load_settings(_ROOT / "dicom_config" / "hospital.yaml")
    assert not settings.embedded
    assert settings.database_url.startswith("postgresql")
    assert settings.data_dir == Path("/var/lib/uair")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAIR_NODE__PORT", "4711")
    settings = load_settings(_write(tmp_path, "node: {port: 104, host: 127.0.0.2}\n"))
    assert settings.node.port == 4711
    assert settings.node.host == "127.0.0.2", "a variable for one key leaves its neighbours"


def test_a_variable_of_a_renamed_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAIR_SIGNALS__PORT", "9105")
    with pytest.raises(ConfigError, match="UAIR_SIGNALS__PORT") as refused:
        load_settings()
    assert "UAIR_MONITORING__PORT" in refused.value.remedy


def test_a_relative_data_folder_lies_beside_the_file(tmp_path: Path) -> None:
    assert load_settings(_write(tmp_path, "data_dir: here\n")).data_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("node: {prot: 104}\n", "config-value", ("`node.prot`", "no such key")),
        ("signals: {port: 9105}\n", "config-value", ("`signals`", "is called `monitoring` now")),
        (
            "intake: {together_s: 5}\n",
            "config-value",
            ("`intake.together_s`", "`intake.partial_edit_wait_s`"),
        ),
        ("node: {port: high}\n", "config-value", ("`node.port`", "integer")),
        ("node:\n  ae_titles: {pick: UAIR}\n", "config-value", ("must differ",)),
        ("node:\n  ae_titles: {pick: MORE_THAN_SIXTEEN_X}\n", "config-value", ("1 to 16",)),
        ("node: [\n", "config-syntax", ("line 2",)),
        ("engine: {model: vit_b}\n", "config-value", ("checkpoint",)),
        (
            "destinations:\n" + 2 * "  - {name: a, ae_title: A, host: h, port: 1}\n",
            "config-value",
            ("each destination needs a name of its own",),
        ),
        ("node: {allow: [{certificates: [router]}]}\n", "config-value", ("need `tls`",)),
        ("node: {allow: [{certificates: ['sha256:12']}]}\n", "config-value", ("64 hexadecimal",)),
        ("node: {allow: [{certificates: ['https://x']}]}\n", "config-value", ("before the colon",)),
        (
            "destinations: [{name: web, url: 'http://pacs.example/dicom-web', user: u}]\n",
            "config-value",
            ("over http sends the password unencrypted",),
        ),
        ("node: {allow: [{certificates: ['10.0.0.1']}]}\n", "config-value", ("write IP:10.0.0.1",)),
        ("node: {tls: {certificate: a, key: b}}\n", "config-value", ("needs `ca`",)),
        ("- a list\n", "config-syntax", ("no keys",)),
    ],
)
def test_a_wrong_file_is_answered_with_key_reason_and_mend(
    tmp_path: Path, text: str, code: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_write(tmp_path, text))
    assert caught.value.code == code
    assert caught.value.remedy
    for word in words:
        assert word in caught.value.sentence


def test_all_errors_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    text = "node: {prot: 104, port: high}\nintake: {quiet_s: -1}\nengine: {model: vit_b}\n"
    with pytest.raises(ConfigError) as caught:
        load_settings(_write(tmp_path, text))
    for key in ("`node.prot`", "`node.port`", "`intake.quiet_s`", "`engine"):
        assert key in caught.value.sentence


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_settings(tmp_path / "absent.yaml")
    assert caught.value.code == "config-missing"


def test_a_rule_admits_only_when_all_its_fields_match() -> None:
    rule = AllowRule(verbs=frozenset({Verb.PICK}), calling_ae=("PACS",), networks=("10.0.0.0/8",))
    assert rule.admits(Verb.PICK, "PACS ", "10.1.2.3")
    assert not rule.admits(Verb.ACCEPT, "PACS", "10.1.2.3")
    assert not rule.admits(Verb.PICK, "OTHER", "10.1.2.3")
    assert not rule.admits(Verb.PICK, "PACS", "11.1.2.3")


def test_a_rule_with_certificates_admits_only_who_shows_one_of_them() -> None:
    fingerprint = "sha256:" + "Ab:" * 31 + "Ab"
    rule = AllowRule(certificates=("router.example.org", fingerprint))
    assert rule.admits(Verb.STORE, "ROUTER", "127.0.0.1", {"CN:router.example.org"})
    assert rule.admits(Verb.STORE, "ROUTER", "127.0.0.1", {"DNS:other.example.org", "DNS:router.example.org"})
    assert rule.admits(Verb.STORE, "ROUTER", "127.0.0.1", {"sha256:" + 32 * "ab"})
    assert rule.mismatch(Verb.STORE, "ROUTER", "127.0.0.1", {"CN:other.example.org"}) == "certificates"
    assert not rule.admits(Verb.STORE, "ROUTER", "127.0.0.1")


@pytest.mark.parametrize(
    ("content", "url", "reason"),
    [
        (None, "amqp://uair@rabbitmq//", "cannot be read"),
        ("\n", "amqp://uair@rabbitmq//", "is empty"),
        ("s", "amqp://rabbitmq//", "names no user"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None, url: str, reason: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        assert Settings(broker={"url": url, "password_file": file}).broker_url
    assert caught.value.code == "password-file"


def test_a_password_from_a_file_may_have_any_characters(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd#\n")
    settings = Settings(database={"url": "postgresql+psycopg://uair@db:5433/uair", "password_file": file})
    assert make_url(settings.database_url).password == "p@ss/w:rd#"
    assert make_url(settings.database_url).host == "db"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", "end"), ("false", "never"), ("each-round", "each-round"), ("end", "end")],
)
def test_withdrawal_is_a_word_or_yes_or_no(tmp_path: Path, written: str, meant: str) -> None:
    path = tmp_path / "uair.yaml"
    path.write_text(f"destinations: [{{name: p, ae_title: A, host: h, port: 104, withdraw: {written}}}]")
    assert load_settings(path).destinations[0].withdraw == meant


def test_an_unknown_withdrawal_names_the_words(tmp_path: Path) -> None:
    path = tmp_path / "uair.yaml"
    path.write_text("destinations: [{name: p, ae_title: A, host: h, port: 104, withdraw: each-rounds}]")
    with pytest.raises(ConfigError, match="'never', 'end' or 'each-round'"):
        load_settings(path)
