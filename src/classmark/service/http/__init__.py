"""Connections, endpoints and problem documents: everything that speaks HTTP."""
