"""The operator's commands: a group for each noun, each a client of the admin plane's HTTP API.

They need nothing of this machine but the admin plane's URL and the operator's key.
"""

from __future__ import annotations

import click

from cycles_server.cli.admin.audit import audit
from cycles_server.cli.admin.budgets import budgets
from cycles_server.cli.admin.keys import keys
from cycles_server.cli.admin.policies import policies
from cycles_server.cli.admin.tenants import tenants

GROUPS: tuple[click.Group, ...] = (tenants, keys, budgets, policies, audit)
