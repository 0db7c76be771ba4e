"""The mailbox's page: what an agent without software sees of a partner's mailbox, in French, in any browser.

Plain pages and forms, made here: no script, nothing from elsewhere, nothing kept by the browser. It shows and does
what the mailbox's API does, for the same partner, through the same rooms.
"""

from hub.entrypoints.http.page.routes import routes

__all__ = ["routes"]
