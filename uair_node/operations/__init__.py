"""What an administrator needs: checks, metrics, records of cases, cohort report, export, retention."""
