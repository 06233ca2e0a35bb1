"""Messages reach a receiver in its own form, whatever it answers the run goes on, and nothing tells where they went."""

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from ptm_dist.driver import notify as module
from ptm_dist.driver.notify import Notifier, read_address
from ptm_dist.errors import ConfigError
from ptm_dist.terms import Notify

TOKEN, SECRET = "planted-token-7Q", "SECplantedsecret9Z"
PLACED = {"event": "attempt_placed", "attempt": 1, "time": 1.0, "workers": 2, "nodes": ["a"], "kind": "ray", "step": 0, "host": "a"}
BEGAN = {"event": "attempt_started", "attempt": 1, "step": 0, "total_steps": 4000, "world": 2}
STEP = {"event": "step", "attempt": 1, "step": 412, "loss": 5.4321}
LOST = {"event": "attempt_ended", "attempt": 1, "exit_code": 60, "cause": "lost_worker", "step": 413, "kept_step": 400, "lost_steps": 13}
AGAIN = {"event": "restarting", "attempt": 1, "seconds": 5.0, "reason": "a worker was killed", "restarts_left": 9}
DONE = {"event": "attempt_ended", "attempt": 2, "exit_code": 0, "cause": "finished", "step": 4000, "kept_step": 4000, "lost_steps": 0}
OVER = {"event": "gave_up", "attempt": 2, "exit_code": 50, "reason": "the loss is not finite"}
GOOD = {"json": b"", "slack": b"ok", "feishu": b'{"code":0,"msg":"success"}', "dingtalk": b'{"errcode":0,"errmsg":"ok"}'}


class Receiver:
    """A real server that keeps what it is sent and answers as it is told, the last answer again and again."""

    def __init__(self, *answers):
        self.requests, self.answers, self.free = [], list(answers), threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), json.loads(body)))
                answer = receiver.answers[0] if len(receiver.answers) == 1 else receiver.answers.pop(0)
                if answer == "hang":
                    receiver.free.wait(30)
                    return
                status, text, *headers = answer
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/hook/{TOKEN}"

    def bodies(self):
        return [body for _, _, body in self.requests]


@pytest.fixture
def receive():
    made = []

    def make(*answers):
        made.append(Receiver(*answers))
        return made[-1]

    yield make
    for receiver in made:
        receiver.free.set()
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.5)


def terms(tmp_path, kind, *lines, mode=0o600):
    path = tmp_path / "url"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(mode)
    return Notify(kind=kind, url_file=str(path))


def told(tmp_path, kind, receiver, events, *secret, seconds=10):
    """Tell a receiver events, wait, and return what was said of messages that did not arrive."""
    lines = []
    notifier = Notifier(terms(tmp_path, kind, receiver.url, *secret), "runs/tiny", lines.append)
    for event in events:
        notifier.tell(event)
    notifier.close(seconds)
    assert TOKEN not in repr(notifier) + str(vars(notifier)) + "".join(lines)
    assert SECRET not in repr(notifier) + str(vars(notifier)) + "".join(lines)
    return lines


def test_the_story_of_a_run_in_three_messages(tmp_path, receive):
    receiver = receive((200, b""))
    again = PLACED | {"attempt": 2, "step": 400}
    story = [PLACED, BEGAN, STEP, LOST, AGAIN, again, BEGAN, STEP | {"step": 3999, "loss": 2.5}, DONE]
    assert told(tmp_path, "json", receiver, story) == []
    assert [body["text"] for body in receiver.bodies()] == [
        "ptm runs/tiny: started | attempt 1 with 2 workers | step 0 | ptm status runs/tiny",
        "ptm runs/tiny: restarting | attempt 1 | lost_worker | a worker was killed | step 413 of 4,000 | 13 steps lost | loss 5.432 | "
        "again in 5 s, 9 restarts left | ptm logs runs/tiny --attempt 1",
        "ptm runs/tiny: finished | attempt 2 | step 4,000 of 4,000 | loss 2.5 | ptm status runs/tiny",
    ]
    assert receiver.bodies()[1] == AGAIN | {"run": "runs/tiny", "text": receiver.bodies()[1]["text"]}


def test_a_run_that_gave_up_says_why_and_where_to_look(tmp_path, receive):
    receiver = receive((200, b""))
    told(tmp_path, "json", receiver, [PLACED, LOST | {"cause": "numeric", "exit_code": 50}, OVER | {"attempt": 1}])
    assert receiver.bodies()[1]["text"] == (
        "ptm runs/tiny: gave up | attempt 1 | numeric | the loss is not finite | step 413 | 13 steps lost | ptm logs runs/tiny --attempt 1"
    )


def test_a_driver_that_goes_on_says_so(tmp_path, receive):
    receiver = receive((200, b""))
    told(tmp_path, "json", receiver, [PLACED | {"attempt": 3, "step": 400}])
    assert "resumed | attempt 3 with 2 workers | step 400" in receiver.bodies()[0]["text"]


def test_slack_gets_text_that_it_cannot_take_for_a_link_or_a_mention(tmp_path, receive):
    receiver = receive((200, b"ok"))
    told(tmp_path, "slack", receiver, [OVER | {"reason": "a <!channel> & more"}])
    assert receiver.bodies() == [{"text": receiver.bodies()[0]["text"]}]
    assert "a &lt;!channel&gt; &amp; more" in receiver.bodies()[0]["text"]
    assert receiver.requests[0][1]["Content-Type"].startswith("application/json")


def test_feishu_gets_a_text_message_signed_with_time_and_secret(tmp_path, receive):
    receiver = receive((200, GOOD["feishu"]))
    assert told(tmp_path, "feishu", receiver, [PLACED], SECRET) == []
    body = receiver.bodies()[0]
    assert body["msg_type"] == "text"
    assert "started" in body["content"]["text"]
    assert abs(int(body["timestamp"]) - time.time()) < 60, "seconds"
    key = f"{body['timestamp']}\n{SECRET}".encode()
    assert body["sign"] == base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()


def test_dingtalk_gets_a_text_message_signed_in_its_address(tmp_path, receive):
    receiver = receive((200, GOOD["dingtalk"]))
    assert told(tmp_path, "dingtalk", receiver, [PLACED], SECRET) == []
    path, _, body = receiver.requests[0]
    assert body["msgtype"] == "text"
    assert body["text"]["content"].startswith("ptm "), "a robot may ask for a keyword"
    query = parse_qs(urlsplit(path).query)
    assert abs(int(query["timestamp"][0]) / 1000 - time.time()) < 60, "milliseconds"
    expected = hmac.new(SECRET.encode(), f"{query['timestamp'][0]}\n{SECRET}".encode(), hashlib.sha256).digest()
    assert query["sign"] == [base64.b64encode(expected).decode()]


def test_a_token_in_the_query_of_dingtalk_stays_there(tmp_path, receive):
    receiver = receive((200, GOOD["dingtalk"]))
    address = f"{receiver.url.rpartition('/')[0]}?access_token={TOKEN}"
    notifier = Notifier(terms(tmp_path, "dingtalk", address, SECRET), "r", [].append)
    notifier.tell(PLACED)
    notifier.close(10)
    query = parse_qs(urlsplit(receiver.requests[0][0]).query)
    assert query["access_token"] == [TOKEN]
    assert query.keys() == {"access_token", "timestamp", "sign"}


def test_without_a_secret_nothing_is_signed(tmp_path, receive):
    receiver = receive((200, GOOD["feishu"]))
    told(tmp_path, "feishu", receiver, [PLACED])
    assert receiver.bodies()[0].keys() == {"msg_type", "content"}


@pytest.mark.parametrize(
    ("kind", "passing"),
    [
        ("json", (500, b"")),
        ("slack", (429, b"rate_limited")),
        ("feishu", (200, b'{"code":11232,"msg":"frequency limited"}')),
        ("dingtalk", (200, b'{"errcode":130101,"errmsg":"send too fast"}')),
    ],
)
def test_what_passes_is_tried_again(tmp_path, receive, kind, passing):
    receiver = receive(passing, passing, (200, GOOD[kind]))
    assert told(tmp_path, kind, receiver, [PLACED]) == []
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("json", (404, b"no such hook"), "HTTP 404"),
        ("slack", (403, b"invalid_token"), "HTTP 403"),
        ("feishu", (200, b'{"code":19024,"msg":"Key Words Not Found"}'), "code 19024: Key Words Not Found"),
        ("feishu", (200, b"<html>"), "the answer is not JSON"),
        ("dingtalk", (200, b'{"errcode":310000,"errmsg":"keywords not in content"}'), "errcode 310000: keywords not in content"),
        ("json", (302, b"", ("Location", "http://127.0.0.1:9/elsewhere")), "HTTP 302"),
    ],
)
def test_a_refusal_is_one_line_and_the_next_message_leaves(tmp_path, receive, kind, answer, reason):
    receiver = receive(answer, (200, GOOD[kind]))
    lines = told(tmp_path, kind, receiver, [PLACED, DONE])
    assert lines == [f"notify {kind}: attempt_placed of attempt 1 was not posted: {reason} (tried 1 times)"]
    assert len(receiver.requests) == 2


def test_an_answer_that_repeats_the_address_is_blotted_out(tmp_path, receive):
    echo = json.dumps({"code": 19021, "msg": f"no match for /hook/{TOKEN} with {SECRET}"}).encode()
    lines = told(tmp_path, "feishu", receive((200, echo)), [PLACED], SECRET)
    assert "code 19021: no match for *** with ***" in lines[0]


def test_a_server_that_stays_broken_gets_a_few_tries_and_one_line(tmp_path, receive):
    receiver = receive((503, b""))
    lines = told(tmp_path, "json", receiver, [PLACED])
    assert lines == ["notify json: attempt_placed of attempt 1 was not posted: HTTP 503 (tried 6 times)"]
    assert len(receiver.requests) == module.MOST_TRIES


def test_a_server_that_hangs_delays_nobody(tmp_path, receive):
    receiver, lines = receive("hang"), []
    notifier = Notifier(terms(tmp_path, "json", receiver.url), "r", lines.append)
    for number in range(1000):  # More than may wait: telling never blocks, and memory is bounded.
        notifier.tell(AGAIN | {"attempt": number})
    notifier.close(0.1)
    assert lines == [f"notify json: {module.MOST_WAITING} messages were not posted before the end of the driver"]


def test_nobody_there_is_one_line(tmp_path, capfd):
    notifier = Notifier(terms(tmp_path, "json", f"http://127.0.0.1:9/{TOKEN}", mode=0o640), "r")
    notifier.tell(PLACED)
    notifier.close(10)
    printed = "".join(capfd.readouterr())
    assert printed == "notify json: attempt_placed of attempt 1 was not posted: Connection refused (tried 6 times)\n"


def test_what_happens_inside_or_in_whoever_listens_never_reaches_the_run(tmp_path, receive, monkeypatch, capfd):
    def broken(*_):
        raise OSError(f"cannot reach {TOKEN}")

    monkeypatch.setattr(module, "request_of", broken)
    notifier = Notifier(terms(tmp_path, "json", receive((200, b"")).url), "r", broken)
    notifier.tell(PLACED)
    notifier.tell({"event": "step"})
    notifier.close(10)
    assert not notifier._thread.is_alive(), "it ended, rather than fell over"
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("kind", "lines", "mode", "problem"),
    [
        ("json", [f"https://h/{TOKEN}"], 0o644, "chmod 600"),
        ("json", [f"https://h/{TOKEN}"], 0o602, "chmod 600"),
        ("json", [], 0o600, "write the address on one line"),
        ("json", [f"https://h/{TOKEN}", "a", "b"], 0o600, "write the address on one line"),
        ("slack", [f"https://h/{TOKEN}", SECRET], 0o600, "remove the second line"),
        ("json", [f"http://example.org/{TOKEN}"], 0o600, "must begin with https://"),
        ("json", [f"file:///{TOKEN}"], 0o600, "must begin with https://"),
        ("json", [f"ftp://h/{TOKEN}"], 0o600, "must begin with https://"),
        ("json", [f"https:///{TOKEN}"], 0o600, "name a host"),
        ("json", [f"https://h:99999/{TOKEN}"], 0o600, "is none"),
        ("json", [f"https://me:{TOKEN}@h/"], 0o600, "names a user"),
        ("json", [f"https://h/ {TOKEN}"], 0o600, "holds a space"),
        ("json", ["x" * 5000], 0o600, "write the address on one line"),
    ],
)
def test_a_bad_address_file_is_refused_before_the_run_without_telling_it(tmp_path, kind, lines, mode, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        Notifier(terms(tmp_path, kind, *lines, mode=mode), "r")
    shown = "".join(map(str, (raised.value, raised.value.__cause__, raised.value.__context__)))
    assert str(tmp_path / "url") in shown
    assert TOKEN not in shown
    assert SECRET not in shown


def test_a_missing_address_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"notify.url_file: .*nothing cannot be read \(No such file"):
        read_address(Notify(kind="json", url_file=str(tmp_path / "nothing")))


def test_this_machine_may_be_reached_without_encryption(tmp_path):
    for host in ("127.0.0.1:8080", "localhost", "[::1]:1"):
        assert read_address(terms(tmp_path, "json", f"http://{host}/x")).url == f"http://{host}/x"
    assert "x" not in repr(read_address(terms(tmp_path, "json", f"https://h/{TOKEN}"))).replace("0x", "")
    assert os.stat(tmp_path / "url").st_mode & 0o777 == 0o600
