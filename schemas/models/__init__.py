"""Pydantic models of what comes in from outside or lies in files: checked here, once."""
