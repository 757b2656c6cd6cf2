"""The command tocsin: reads the settings, puts the rooms together, prints errors in one line."""
