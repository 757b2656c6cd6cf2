"""The thin tier that devices connect to: authenticates, orders, sends, and turns what clients say into records."""
