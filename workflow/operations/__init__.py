"""Operations: status, ledger, sweep, backup and self-checks."""
