"""`redraft check`: what the guard finds in a rewrite. Needs no model and no profile."""

from __future__ import annotations

import sys

from agent.terminal import escape, open_console, write_json
from rewriter.guard import check_intent, findings_json
from rewriter.request import clean_request


def check(request: str, rewrite: str, *, as_json: bool) -> None:
    """Prints what `rewrite` breaks of `request`. Raises InputError if the request cannot be used."""
    findings = check_intent(clean_request(request), rewrite)
    if as_json:
        write_json(findings_json(findings), sys.stdout)
        return
    console = open_console(sys.stdout)
    for finding in findings:
        console.print(escape(str(finding)), soft_wrap=True)
    if not findings:
        console.print("ok: the rewrite asks for what the request asks for, as far as the guard can tell")
