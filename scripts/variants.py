"""Check that an audit finds each of four broken variants of the product: `make variants`.

The chaos suite exists to find such faults. Each variant is a copy of the repository with one fault, and an
audit runs in this copy. The audit is a small form of the chaos suite's audit, or the power-loss test. The
same audits first run on an unchanged copy and must pass. The script needs PostgreSQL and strace.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console

from scripts.mutants import Mutant, try_all

_AUDIT = "tests/chaos/test_small_audits.py"

VARIANTS = (
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
        (f"{_AUDIT}::test_answers_at_the_same_moment_leave_a_clean_ledger",),
    ),
    Mutant(
        "every sync is made",
        "uair_node/storage/store.py",
        "        sync_folder(path.parent)",
        "        pass",
        ("tests/unit/test_power_loss.py",),
    ),
    Mutant(
        "every outgoing instance is readable, or the audit says which is not",
        "uair_node/network/outgoing.py",
        "        file = instance.path.read_bytes()\n",
        "        file = instance.path.read_bytes()[: -9 if instance.key == 2 else None]\n",
        (f"{_AUDIT}::test_what_is_published_reaches_the_pacs",),
    ),
    Mutant(
        "no answer is dropped",
        "uair_node/selection/service.py",
        """SelectionOutcome.REPEATED, counts.round_number
        session.add(row)
""",
        """SelectionOutcome.REPEATED, counts.round_number
""",
        (f"{_AUDIT}::test_every_answer_has_a_row",),
    ),
)


def main() -> int:
    """Try the variants; print the variants that pass all audits, then the count. Return the exit code."""
    os.environ["CI"] = "1"  # a peer that is not installed must not make an audit pass
    caught = try_all(VARIANTS)
    if caught is None:
        return 1
    Console(soft_wrap=True).print(f"variants {len(VARIANTS)} caught {caught}")
    return int(caught < len(VARIANTS))


if __name__ == "__main__":
    sys.exit(main())
