"""Assembly: from settings to a running hub. The only room that names adapters; nobody but the command line
knows it.

`files` reads what an operator wrote, `checking` says what is wrong with it, `ground` opens store and keyring,
`journey` and `objects` say on what log and which attachments, `house` builds the rooms, `roles` runs them.
`relocation` brings all of it to other servers.
"""

from hub.adapters.partners.files import read_partners_file
from hub.adapters.partners.written import ExportForm, write_export, written
from hub.adapters.pictures.coverage import render as render_coverage
from hub.adapters.rules.territory import load_territory
from hub.adapters.rules.vintages import fetched, list_vintages
from hub.adapters.rules.vintages import update as update_territory
from hub.assembly.checking import faults, findings
from hub.assembly.files import channel_fields, declared_rules, rules_folder
from hub.assembly.ground import Ground, ground, has_store
from hub.assembly.journey import (
    differing_topics,
    excessive_rights,
    give_rights,
    make_schemas,
    make_topics,
    missing_schemas,
)
from hub.assembly.relocation import Relocated, relocate, reopen
from hub.assembly.roles import Role, Running, run, settle_memory
from hub.assembly.trying import trial_room

__all__ = [
    "ExportForm",
    "Ground",
    "Relocated",
    "Role",
    "Running",
    "channel_fields",
    "declared_rules",
    "differing_topics",
    "excessive_rights",
    "faults",
    "fetched",
    "findings",
    "give_rights",
    "ground",
    "has_store",
    "list_vintages",
    "load_territory",
    "make_schemas",
    "make_topics",
    "missing_schemas",
    "read_partners_file",
    "relocate",
    "render_coverage",
    "reopen",
    "rules_folder",
    "run",
    "settle_memory",
    "trial_room",
    "update_territory",
    "write_export",
    "written",
]
