"""`tocsin doctor`: gathers facts about everything, judges them, says what to do."""
