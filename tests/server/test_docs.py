"""The contract as it is served, and pages to try it."""

from __future__ import annotations

import httpx
import yaml
from support.running import Running
from support.server import ADMIN_KEY

from cycles_server.contract.document import load_contract
from cycles_server.planes.runtime import RUNTIME

CONTRACT = load_contract(RUNTIME.contract)


def test_it_is_served_as_it_stands(running: Running) -> None:
    headers = {"X-Admin-API-Key": ADMIN_KEY}
    served = httpx.get(f"{running.url}/api-docs.yaml", headers=headers)
    assert served.content == CONTRACT.text
    as_json = httpx.get(f"{running.url}/api-docs", headers=headers).json()
    assert as_json == yaml.safe_load(CONTRACT.text)


def test_pages_to_try_it(running: Running) -> None:
    headers = {"X-Admin-API-Key": ADMIN_KEY}
    page = httpx.get(f"{running.url}/swagger-ui.html", headers=headers)
    assert page.status_code == 200
    assert "/swagger-ui/swagger-ui-bundle.js" in page.text
    assert '"/api-docs"' in page.text
    script = httpx.get(f"{running.url}/swagger-ui/swagger-ui-bundle.js", headers=headers)
    assert script.status_code == 200
    assert httpx.get(f"{running.url}/swagger-ui.html").status_code == 401
