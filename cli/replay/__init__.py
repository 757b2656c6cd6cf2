"""`tocsin replay` and `tocsin dlq`: topics read again, and what comes of it."""
