"""Tools for the administrator: checks, metrics, records of cases, cohort report, export, retention."""
