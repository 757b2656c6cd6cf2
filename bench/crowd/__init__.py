"""A crowd of WebSocket clients, written in C so that it is not what is measured."""
