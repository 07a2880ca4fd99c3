"""Put small faults (mutants) into the product and check that each fault makes a test fail: `make mutants`.

Each mutant changes one place in a copy of the repository. Then the tests that should detect the fault run in
that copy. The same tests first run on an unchanged copy and must pass. So a failure in the changed copy comes
from the mutant. The tests need PostgreSQL and strace. Without these programs, some mutants survive: no test
fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parents[1]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", "__pycache__", "node_modules", "demo-output", "secrets", "uair-data"
)
"""Files that a copy of the repository lacks: environments, caches, and what git ignores."""
_PROCESSES = 2
_FAILED = 1
"""pytest's exit code if tests ran and some failed."""


@dataclass(frozen=True)
class Mutant:
    """A fault: `text` of `file` is replaced by `fault`. One of `tests` must detect it."""

    promise: str
    file: str
    text: str
    fault: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a case is read again after its lock",
        "uair_node/cases/lock.py",
        """    session.expire_all()
    locked = select(Case).where(Case.id == case_id).with_for_update()
    case = session.scalars(locked.execution_options(populate_existing=True)).one_or_none()
""",
        """    locked = select(Case).where(Case.id == case_id).with_for_update()
    case = session.scalars(locked).one_or_none()
""",
        ("tests/unit/test_simultaneous_answers.py",),
    ),
    Mutant(
        "no answer is dropped",
        "uair_node/selection/service.py",
        """SelectionOutcome.REPEATED, counts.round_number
        session.add(row)
""",
        """SelectionOutcome.REPEATED, counts.round_number
""",
        ("tests/unit/test_answer_ledger.py",),
    ),
    Mutant(
        "an accepted case stays accepted",
        "uair_node/cases/states.py",
        "_S.ACCEPTED: frozenset(),",
        "_S.ACCEPTED: frozenset({_S.REFINING}),",
        ("tests/unit/test_architecture.py", "tests/unit/test_lifecycle.py"),
    ),
    Mutant(
        "a case without an answer can expire",
        "uair_node/cases/states.py",
        "frozenset({_S.REFINING, _S.REJECTED, _S.ACCEPTED, _S.EXPIRED, _S.SUPERSEDED})",
        "frozenset({_S.REFINING, _S.REJECTED, _S.ACCEPTED, _S.SUPERSEDED})",
        ("tests/unit/test_architecture.py", "tests/unit/test_lifecycle.py"),
    ),
    Mutant(
        "transitions are checked",
        "uair_node/cases/states.py",
        "if state not in TRANSITIONS[origin]:",
        "if False:",
        ("tests/unit/test_lifecycle.py",),
    ),
    Mutant(
        "UIDs tell where a part ends",
        "uair_node/results/uids.py",
        'digest.update(len(raw).to_bytes(8, "big"))',
        "pass",
        ("tests/unit/test_uids.py",),
    ),
    Mutant(
        "UIDs hold all of their parts",
        "uair_node/results/uids.py",
        "digest.update(raw)",
        "digest.update(raw[:4])",
        ("tests/unit/test_uids.py",),
    ),
    Mutant(
        "the slice normal points from feet to head",
        "uair_node/dicom/stack.py",
        "np.cross(row, column)",
        "np.cross(column, row)",
        ("tests/unit/test_volume.py",),
    ),
    Mutant(
        "a flipped axis runs backwards",
        "uair_node/dicom/volume.py",
        "affine[:3, axis] *= -1",
        "affine[:3, axis] *= 1",
        ("tests/unit/test_volume.py",),
    ),
    Mutant(
        "a flipped axis starts at the other end",
        "uair_node/dicom/volume.py",
        "affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)",
        "affine[:3, 3] += affine[:3, axis] * array.shape[axis]",
        ("tests/unit/test_volume.py",),
    ),
    Mutant(
        "labels come back to the source grid",
        "uair_node/dicom/volume.py",
        "back = np.flip(labels, self.flips).transpose(np.argsort(self.transpose))",
        "back = labels.transpose(np.argsort(self.transpose))",
        ("tests/unit/test_volume.py",),
    ),
    Mutant(
        "a whole file is on disk before it has its name",
        "uair_node/storage/store.py",
        "                os.fsync(file.fileno())\n",
        "                pass\n",
        ("tests/unit/test_power_loss.py",),
    ),
    Mutant(
        "a new name is on disk before success is told",
        "uair_node/storage/store.py",
        "    sync_folder(path.parent)",
        "    pass",
        ("tests/unit/test_power_loss.py",),
    ),
    Mutant(
        "the spool keeps free space",
        "uair_node/storage/spool.py",
        "if free - size < least:",
        "if free < least:",
        ("tests/unit/test_spool.py",),
    ),
    Mutant(
        "a peer without resources is asked again",
        "uair_node/network/statuses.py",
        "(range(0xA700, 0xA800), DeliveryVerdict.RETRY,",
        "(range(0xA700, 0xA800), DeliveryVerdict.PARK,",
        ("tests/unit/test_delivery.py",),
    ),
    Mutant(
        "viewers do not act",
        "uair_node/console/guard.py",
        "if not session.role.covers(role):",
        "if False:",
        ("tests/console/test_security.py",),
    ),
    Mutant(
        "forms carry the session's token",
        "uair_node/console/guard.py",
        "not hmac.compare_digest(given.encode(), session.csrf.encode())",
        "False",
        ("tests/console/test_security.py",),
    ),
    Mutant(
        "forwarding headers count from the proxy only",
        "uair_node/console/guard.py",
        "if proxy is None or not proxy.trusts(address):",
        "if proxy is None:",
        ("tests/console/test_proxy.py",),
    ),
    Mutant(
        "the proxy shows its secret",
        "uair_node/console/guard.py",
        "return not secret or known",
        "return True",
        ("tests/console/test_proxy.py",),
    ),
    Mutant(
        "patient keys need the secret",
        "uair_node/patient_keys.py",
        "hmac.new(self._secret, ",
        "hmac.new(bytes(32), ",
        ("tests/unit/test_patient_keys.py",),
    ),
    Mutant(
        "Dice counts the shared part twice",
        "workers/truth/metrics.py",
        "return 2 * self.shared / total if total else 1.0",
        "return self.shared / total if total else 1.0",
        ("tests/unit/test_evaluation_metrics.py",),
    ),
    Mutant(
        "Dice of candidates counts the shared part twice",
        "workers/uair/candidates.py",
        "2.0 * gram / np.maximum(total, 1.0)",
        "1.5 * gram / np.maximum(total, 1.0)",
        ("tests/unit/test_uair_equations.py",),
    ),
    Mutant(
        "T of equation 2 falls with the filled part of the box",
        "workers/uair/uncertainty.py",
        "filled = (mask_area / box_area) / ELLIPSE_IN_BOX",
        "filled = (box_area / mask_area) / ELLIPSE_IN_BOX",
        ("tests/unit/test_uair_equations.py",),
    ),
    Mutant(
        "equation 3 takes the largest variance",
        "workers/uair/candidates.py",
        "(squares - together / SHOWN) / (SHOWN - 1)",
        "(together / SHOWN - squares) / (SHOWN - 1)",
        ("tests/unit/test_uair_equations.py",),
    ),
    Mutant(
        "a pick speaks for the candidate that was picked",
        "workers/uair/preference.py",
        "np.exp(misfit[:, picked])",
        "np.exp(misfit[:, 0])",
        ("tests/unit/test_uair_preference.py",),
    ),
    Mutant(
        "a pick makes what equals it more probable",
        "workers/uair/preference.py",
        "weight = np.exp((agreement - agreement.max()) / TEMPERATURE)",
        "weight = np.exp((agreement.max() - agreement) / TEMPERATURE)",
        ("tests/unit/test_uair_preference.py", "tests/unit/test_uair_equations.py"),
    ),
    Mutant(
        "work whose lease was lost is not written",
        "uair_node/cases/work_items.py",
        "WorkItem.lease_owner == owner, WorkItem.open)\n        .with_for_update()",
        "WorkItem.open)\n        .with_for_update()",
        ("tests/unit/test_work.py",),
    ),
    Mutant(
        "lost messages are sent again",
        "uair_node/cases/work_items.py",
        "WorkItem.enqueued_at < now - REQUEUE_AFTER,",
        "WorkItem.enqueued_at > now,",
        ("tests/unit/test_work.py",),
    ),
    Mutant(
        "one node uses a data folder",
        "uair_node/storage/node_lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/integration/test_node_lock.py",),
    ),
    Mutant(
        "a series that needs too much memory is refused",
        "uair_node/dicom/gate.py",
        "sum(sizes) > MOST_VOXELS",
        "len(sizes) > MOST_VOXELS",
        ("tests/unit/test_gate.py",),
    ),
    Mutant(
        "a notice is never older than its series",
        "uair_node/results/notices.py",
        "max(moment, case.created_at)",
        "moment",
        ("tests/unit/test_notices.py",),
    ),
    Mutant(
        "density around a lesion is that of the organ",
        "workers/uair/density.py",
        "(outside_mm < FARTHEST_MM) & allowed",
        "(outside_mm < FARTHEST_MM)",
        ("tests/unit/test_density.py",),
    ),
    Mutant(
        "a place belongs to the nearest part",
        "workers/uair/parts.py",
        "return np.argmin(squares, axis=0)",
        "return np.argmax(squares, axis=0)",
        ("tests/unit/test_parts.py",),
    ),
    Mutant(
        "a part is taken from the candidate that is named for it",
        "uair_node/storage/artifacts.py",
        "np.where(here, region_of(k), region)",
        "np.where(here, region, region_of(k))",
        ("tests/unit/test_picks_per_lesion.py",),
    ),
    Mutant(
        "the belief takes the answer for each part",
        "workers/uair/posterior.py",
        "weights *= likelihood_of_pick(1.0 - cost",
        "weights /= likelihood_of_pick(1.0 - cost",
        ("tests/unit/test_parts.py",),
    ),
)


def main() -> int:
    """Run all mutants. Print the mutants that no test detected, then their count. Return the exit code."""
    killed = try_all(MUTANTS)
    if killed is None:
        return 1
    Console(soft_wrap=True).print(f"mutants {len(MUTANTS)} killed {killed}")
    return int(killed < len(MUTANTS))


def try_all(mutants: Sequence[Mutant]) -> int | None:
    """Try mutants. Print the mutants that no test detects. Return the number of detected mutants.

    The result is None if the tests fail without a mutant.
    """
    console = Console(soft_wrap=True)
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with _copy() as folder:
        done = _pytest(folder, tests)
    if done.returncode:
        console.print(done.stdout)
        console.print("The tests fail without any mutant; correct that first.")
        return None
    with ThreadPoolExecutor(_PROCESSES) as pool:
        results = pool.map(_is_killed, mutants)
        killed = [bool(found) for found in track(results, "Mutants", len(mutants), console=console)]
    for mutant, is_killed in zip(mutants, killed, strict=True):
        if not is_killed:
            console.print(f"lives: {mutant.promise} ({mutant.file})")
    return sum(killed)


def _is_killed(mutant: Mutant) -> bool:
    with _copy() as folder:
        file = folder / mutant.file
        source = file.read_text("utf-8")
        if source.count(mutant.text) != 1:
            raise SystemExit(f"{mutant.file} no longer has the line of the mutant: {mutant.promise}")
        file.write_text(source.replace(mutant.text, mutant.fault), "utf-8")
        return _pytest(folder, mutant.tests).returncode == _FAILED


@contextmanager
def _copy() -> Iterator[Path]:
    """Yield the folder of a copy of the repository without its caches."""
    with tempfile.TemporaryDirectory(prefix="uair-mutant-") as name:
        folder = Path(name) / "repository"
        shutil.copytree(ROOT, folder, ignore=_LEFT_OUT)
        yield folder


def _pytest(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not bench"]
    # The copy contains no real CT. If the variable CI were set, then the tests that need a real CT would
    # fail.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
