"""All routes of the page."""

from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Add the page to the application."""
