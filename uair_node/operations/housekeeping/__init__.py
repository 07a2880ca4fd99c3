"""What keeps an installation small and movable: retention, and a case as a file for support."""
