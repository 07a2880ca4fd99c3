"""Tools of the administrator: checks, metrics, records of cases, cohort report, export, retention."""
