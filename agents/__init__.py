"""Shells on Faust: take a batch, call the rule, perform the effects, mark, ack; worker.py starts a role."""
