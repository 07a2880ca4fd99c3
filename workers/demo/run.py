"""Run a demonstration: send a series, simulate the reader for some rounds, accept, and keep the results."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import CTImageStorage, SegmentationStorage
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicom_config.errors import InputError, TransientError
from uair_node.cases.states import CaseState
from uair_node.context import Context, open_context
from uair_node.dicom.intensity import display_window
from uair_node.network.outgoing import OutgoingInstance
from uair_node.network.scu import send
from uair_node.network.statuses import DeliveryVerdict
from uair_node.operations import reports
from uair_node.operations.case_list import find_cases
from uair_node.rendering.plane_names import plane_names
from uair_node.rendering.sheet import SheetCandidate, draw_sheet
from uair_node.storage.artifacts import Labels
from workers.demo.improvement import draw_improvement
from workers.demo.reader import Choose, Offer, Score, answer, read_offer, score
from workers.demo.series import Input
from workers.demo.site import Site, open_site

ROUND_LIMIT_S = 900.0
IMPROVEMENT = "improvement.png"


@dataclass
class Story:
    """The record of a demonstration's rounds and final result, in the form of `summary.json`."""

    case: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, Any] = field(default_factory=dict)
    seconds_total: float = 0.0


def run_demo(source: Input, output: Path, choose: Choose, rounds: int, console: Console) -> Story:
    """Run the whole loop and fill `output`: archive/, a contact sheet for each round, summary.json, logs.

    Raises
    ------
    InputError
        The node refused the series. The error has the node's code, sentence and remedy.
    TransientError
        ``demo-timeout``, ``demo-start``, ``push-refused``.
    """
    archive = output / "archive"
    for old in (archive, output / "summary.json", output / IMPROVEMENT):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uair-demo-") as folder, _bars(console) as bars:
        try:
            with open_site(Path(folder), archive) as site:
                story = _Demo(site, source, output, choose, bars).play(rounds)
        finally:
            shutil.copyfile(Path(folder) / "demo.log", output / "demo.log")
    (output / "summary.json").write_text(json.dumps(vars(story), indent=2) + "\n", "utf-8")
    return story


class _Demo:
    def __init__(self, site: Site, source: Input, output: Path, choose: Choose, bars: Progress) -> None:
        self._site, self._source, self._output = site, source, output
        self._choose, self._bars = choose, bars
        self._titles = site.settings.node.ae_titles
        self._context: Context = open_context(site.settings)

    def play(self, rounds: int) -> Story:
        """Send the series, pick in each round, and accept."""
        started = time.monotonic()
        self._push()
        story = Story(self._describe_case())
        picks: list[Offer] = []
        for number in range(1, rounds + 1):
            begun = time.monotonic()
            offers = self._await_round(number)
            seconds = time.monotonic() - begun
            picked = self._pick(number, offers)
            chosen = next(offer for offer in offers if offer.k == picked)
            picks.append(chosen)
            story.rounds.append(self._describe_round(number, seconds, offers, picks))
            self._draw(number, offers, picked)
            last = number == rounds
            verb = self._titles.accept if last else self._titles.pick
            answer(chosen, self._site.node_as(verb), SegmentationStorage)
        self._draw_improvement(picks)
        story.final = self._await_final(rounds)
        story.seconds_total = round(time.monotonic() - started, 1)
        self._context.database.close()
        return story

    def _pick(self, number: int, offers: Sequence[Offer]) -> int:
        if self._source.truth is not None:
            return self._choose(number, offers)
        self._draw(number, offers)
        self._bars.stop()  # the bars would hide the prompt for a person's pick
        picked = self._choose(number, offers)
        self._bars.start()
        return picked

    def _push(self) -> None:
        paths = self._source.paths
        bar = self._bars.add_task("sending the series", total=len(paths))
        instances = [OutgoingInstance(n, CTImageStorage, path) for n, path in enumerate(paths)]
        for reply in send(self._site.node_as(self._titles.store), instances):
            if reply.verdict != DeliveryVerdict.CONFIRMED:
                raise TransientError("push-refused", f"The node answered: {reply.reason}.", "See demo.log.")
            self._bars.advance(bar)

    def _await_round(self, number: int) -> list[Offer]:
        bar = self._bars.add_task(f"round {number}: four candidates", total=4)
        results = self._await(lambda case: _delivered(case, number, "candidate"), bar)
        return [self._offer(result) for result in results]

    def _await_final(self, number: int) -> dict[str, Any]:
        bar = self._bars.add_task("final segmentation", total=1)
        (result,) = self._await(lambda case: _delivered(case, number, "final"), bar)
        offer = self._offer(result)
        return _describe_object(offer, result, self._output)

    def _await(self, find: Any, bar: Any) -> list[dict[str, Any]]:
        """Wait until `find` returns results of the case and all of them are delivered. Return them."""
        deadline = time.monotonic() + ROUND_LIMIT_S
        while time.monotonic() < deadline:
            case = self._look()
            results, delivered = find(case)
            self._bars.update(bar, completed=len(delivered))
            if results and len(delivered) == len(results):
                return list(delivered)
            if case["state"] in (CaseState.REJECTED, CaseState.FAILED):
                raise InputError(case["code"], case["sentence"], case["remedy"])
            time.sleep(0.2)
        raise TransientError("demo-timeout", "The node did not answer in time.", "See demo.log.")

    def _look(self) -> dict[str, Any]:
        with self._context.database.transaction() as session:
            (case,) = find_cases(session)
            return reports.detail(session, case)

    def _offer(self, result: dict[str, Any]) -> Offer:
        path = self._site.archive_folder / f"{result['sop_instance_uid']}.dcm"
        labels = read_offer(path, self._source.volume)
        truth = self._source.truth
        found = score(labels, truth) if truth is not None else None
        return Offer(result["k"], result["sop_instance_uid"], path, result["character"], labels, found)

    def _describe_case(self) -> dict[str, Any]:
        case, volume = self._look(), self._source.volume
        return {
            "series_instance_uid": case["series_instance_uid"],
            "slices": volume.shape[0],
            "spacing_mm": [round(mm, 4) for mm in volume.spacing_mm],
        }

    def _describe_round(
        self, number: int, seconds: float, offers: Sequence[Offer], picks: Sequence[Offer]
    ) -> dict[str, Any]:
        _, delivered = _delivered(self._look(), number, "candidate")
        results = {result["k"]: result for result in delivered}
        return {
            "round": number,
            "seconds": round(seconds, 1),
            "selected": picks[-1].k,
            **({} if picks[-1].score is None else {"gain": gain_of(offers, picks)}),
            "candidates": [
                {"k": offer.k, **_describe_object(offer, results[offer.k], self._output)} for offer in offers
            ],
        }

    def _draw(self, number: int, offers: Sequence[Offer], picked: int = 0) -> None:
        view = self._source.volume.canonical()
        draw_sheet(
            view.array,
            view.spacing_mm,
            plane_names(self._source.volume),
            [_column(offer, view.from_source(offer.labels), picked) for offer in offers],
            title=f"Round {number}: four candidates",
            path=self._output / f"round-{number}.png",
            window=display_window(view.array, view.profile),
        )

    def _draw_improvement(self, picks: Sequence[Offer]) -> None:
        """Draw, for each round, the distance of the lesions' surfaces from the true surfaces, if known."""
        view, truth = self._source.volume.canonical(), self._source.truth
        if truth is not None:
            picked = [view.from_source(pick.labels) for pick in picks]
            path = self._output / IMPROVEMENT
            draw_improvement(picked, view.from_source(truth), view.spacing_mm, path)


def gain_of(offers: Sequence[Offer], picks: Sequence[Offer]) -> dict[str, float]:
    """Return the gain in Dice from the previous pick to the newest pick.

        The first pick is compared with the mean of the round's four candidates.

    Parameters
    ----------
    offers
        The candidates of the round.
    picks
        The reader's picks up to this round, the newest last. Their truth is known.
    """
    before = [pick.score for pick in (picks[-2:-1] or offers) if pick.score is not None]
    now = picks[-1].score
    assert now is not None, "the truth is known"
    gain = {"liver": now.liver - float(np.mean([score.liver for score in before]))}
    lesions = [score.lesions for score in before if score.lesions is not None]
    if now.lesions is not None and lesions:
        gain["lesions"] = now.lesions - float(np.mean(lesions))
    return {target: round(value, 4) for target, value in gain.items()}


def _column(offer: Offer, labels: Labels, picked: int) -> SheetCandidate:
    return SheetCandidate(offer.k, offer.character, labels, note="picked" if offer.k == picked else "")


def _delivered(
    case: dict[str, Any], number: int, kind: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the results of a kind in a round, and those of them that the archive has received."""
    every = [
        result
        for turn in case["rounds"]
        if turn["round"] == number
        for result in turn["results"]
        if result["kind"] == kind
    ]
    return every, [result for result in every if all(d["state"] == "confirmed" for d in result["deliveries"])]


def _describe_object(offer: Offer, result: dict[str, Any], output: Path) -> dict[str, Any]:
    described: dict[str, Any] = {
        "sop_instance_uid": offer.sop_instance_uid,
        "file": offer.path.relative_to(output).as_posix(),
        "character": offer.character,
        "volumes_ml": result["volumes_ml"],
    }
    if offer.score is not None:
        described["dice"] = _rounded(offer.score)
    return described


def _rounded(found: Score) -> dict[str, float]:
    dice = {"liver": round(found.liver, 4)}
    if found.lesions is not None:
        dice["lesions"] = round(found.lesions, 4)
    return dice


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        yield bars
