"""What people are told about a run: which events, in which words, and the form that each kind of receiver takes and answers in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

Event = dict[str, Any]

SIGNED: Final = frozenset({"feishu", "dingtalk"})
"""Kinds whose messages a secret signs."""
TRY_AGAIN: Final = {"feishu": frozenset({11232}), "dingtalk": frozenset({-1, 130101})}
"""Codes of a refusal that passes: too many messages, a server that is busy."""


@dataclass(frozen=True, repr=False)
class Address:
    """Where messages go. Its repr tells nothing."""

    url: str
    secret: str = ""

    def hidden(self, text: str) -> str:
        """Return a text with every part of the address and the secret blotted out."""
        split = urlsplit(self.url)
        values = [value.partition("=")[2] for value in split.query.split("&")]
        parts = [self.url, self.secret, split.query, split.path, *values, *split.path.split("/")]
        for part in sorted({part for part in parts if len(part) > 4}, key=len, reverse=True):
            text = text.replace(part, "***")
        return text


def what_of(event: Event, known: Mapping[str, Any]) -> str:
    """Return what an event means to people, "" if they need not hear of it."""
    match event.get("event"):
        case "attempt_placed" if "attempt" not in known:
            return "resumed" if event.get("step") else "started"
        case "attempt_ended" if event.get("cause") in {"finished", "stopped"}:
            return str(event["cause"])
        case "restarting":
            return "restarting"
        case "gave_up":
            return "gave up"
        case _:
            return ""


_KEPT: Final = {
    "attempt_placed": ("attempt", "workers", "step"),
    "attempt_started": ("total_steps",),
    "step": ("loss",),
    "attempt_ended": ("attempt", "workers", "step", "cause", "lost_steps", "loss", "total_steps"),
}


def remember(event: Mapping[str, Any], known: Event) -> None:
    """Note what later messages tell. Of the workers' events it takes what the driver's do not say: the loss, and the steps of the run."""
    kept = _KEPT.get(event.get("event", ""), ())
    known |= {key: event[key] for key in kept if event.get(key) is not None}
    if event.get("event") == "step":
        known["step"] = event["step"] + 1  # Updates done, as the driver counts them.


def text_of(run: str, what: str, event: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the one line that people read; it begins with ptm, which a robot may ask for as its keyword."""
    both = {**known, **event}
    said = [f"ptm {run}: {what}"]
    if "attempt" in both:
        workers = f" with {both['workers']} workers" if what in {"started", "resumed"} and "workers" in both else ""
        said.append(f"attempt {both['attempt']}{workers}")
    if what in {"restarting", "gave up"}:
        said += [str(found) for found in (both.get("cause"), _short(event.get("reason"))) if found]
    if both.get("step") is not None:
        total = f" of {both['total_steps']:,}" if "total_steps" in both else ""
        said.append(f"step {both['step']:,}{total}")
    if both.get("lost_steps") and what not in {"started", "resumed"}:
        said.append(f"{both['lost_steps']:,} steps lost")
    if "loss" in both:
        said.append(f"loss {both['loss']:.4g}")
    if what == "restarting":
        said.append(f"again in {event.get('seconds', 0):.0f} s, {event.get('restarts_left', 0)} restarts left")
    where = (
        f"ptm logs {run} --attempt {both['attempt']}" if what in {"restarting", "gave up"} and "attempt" in both else f"ptm status {run}"
    )
    return " | ".join([*said, where])


def _short(reason: Any) -> str:
    return " ".join(str(reason or "").split())[:200]


def request_of(kind: str, address: Address, text: str, event: Mapping[str, Any]) -> tuple[str, Any]:
    """Return where a message goes and what is posted; signed as of now."""
    match kind:
        case "slack":
            escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return address.url, {"text": escaped}
        case "feishu":
            body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
            if address.secret:
                now = str(int(time.time()))
                body |= {"timestamp": now, "sign": signature(f"{now}\n{address.secret}", "")}
            return address.url, body
        case "dingtalk":
            signed = ""
            if address.secret:
                now = str(int(time.time() * 1000))
                sign = signature(address.secret, f"{now}\n{address.secret}")
                signed = ("&" if urlsplit(address.url).query else "?") + urlencode({"timestamp": now, "sign": sign}, quote_via=quote)
            return address.url + signed, {"msgtype": "text", "text": {"content": text}}
        case _:
            return address.url, {**event, "text": text}


def signature(key: str, message: str) -> str:
    """Return the HMAC-SHA256 of a message in base64.

    Feishu wants nothing signed with time and secret as the key, DingTalk time and secret signed with the secret.
    """
    return base64.b64encode(hmac.new(key.encode(), message.encode(), hashlib.sha256).digest()).decode()


def verdict_of(kind: str, answer: bytes) -> tuple[str, bool]:
    """Return what the body of an answer says: Feishu and DingTalk refuse with status 200."""
    field, message = {"feishu": ("code", "msg"), "dingtalk": ("errcode", "errmsg")}.get(kind, ("", ""))
    if not field:
        return "", False
    try:
        said = json.loads(answer)
        code = said.get(field, said.get("StatusCode", 0))
    except (ValueError, AttributeError):
        return "the answer is not JSON", False
    return (f"{field} {code}: {_short(said.get(message))}" if code else ""), code in TRY_AGAIN[kind]
