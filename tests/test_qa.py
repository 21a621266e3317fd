"""Exact match of answers, and a judge behind a local server that says what the tests want."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from elysium.errors import InputError, SourceError
from elysium.evaluation import judge
from elysium.evaluation.judge import Endpoint, Verdict, judge_one, judge_scores, parse_verdict
from elysium.evaluation.qa import QaItem, TypeScore, exact_match, normalise_answer, qa_scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Dog.\n", "dog"),
        ("An  apple, a pear", "apple pear"),
        ("Two", "2"),
        ("none", "0"),
        ("zero or ten", "0 or 10"),
        ("eleven", "eleven"),
        ("don't", "dont"),
        ("the man’s", "mans"),
        ("T-shirt/jacket", "t shirt jacket"),
        ("1,000,000", "1000000"),
        ("1,2", "1 2"),
        ("3.5 m.", "3.5 m"),
        (".5", "5"),
        ("50%", "50"),
        ("a", "a"),  # nothing would be left
        ("The a.", "the a"),
        ("anthem", "anthem"),  # articles are words, not letters
        ("ＤＯＧ", "dog"),
        ("हिन्दी", "हिन्दी"),  # vowel signs are no punctuation
        ("...", ""),
        ("", ""),
    ],
)
def test_normalise_answer(text, expected):
    assert normalise_answer(text) == expected
    assert normalise_answer(expected) == expected


def test_exact_match():
    assert exact_match("A dog!", "dog") and exact_match("Two", ["three", "2"])
    assert not exact_match("a big dog", ["dog"]) and not exact_match("dog", [])
    assert not exact_match("", [""]) and not exact_match("?", "!")
    assert not exact_match("d", "dog")  # one text is one answer, not a list of letters


def test_scores_over_all_and_by_type():
    items = [
        QaItem("a dog", ["dog"], "what"),
        QaItem("cat", ["dog"], "what"),
        QaItem("one", ["1"], "how many"),
        QaItem("yes", ["yes"]),
    ]
    scores = qa_scores(iter(items))
    assert (scores.accuracy, scores.num_items, scores.right.tolist()) == (75, 4, [True, False, True, True])
    assert scores.by_type == {"how many": TypeScore(100, 1), "what": TypeScore(50, 2)}
    assert math.isnan(qa_scores([]).accuracy)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"correct": "yes", "score": 5}', (True, 5)),
        ("{'pred': 'no', 'score': 0}", (False, 0)),
        ("```json\n{\n  'Correct': 'Yes',\n  'Score': 4.5\n}\n```", (True, 4.5)),
        ('{"score": "3", "correct": false}', (False, 3)),
        ('{"correct": true, "score": 4/5}', (True, 4)),
        ("correct: yes, score: 4.", (True, 4)),
        ('First {"correct": "yes", "score": 5}. No: {"correct": "no", "score": 1}', (False, 1)),
        ('{"correct": "yes"}', (None, None)),
        ('{"score": 4}', (None, None)),
        ('{"correct": "maybe", "score": 4}', (None, None)),
        ('{"correct": "yesterday", "score": 4}', (None, None)),
        ('{"incorrect": "yes", "score": 4}', (None, None)),
        ('{"correct": "yes", "score": 6}', (None, None)),
        ('{"correct": "yes", "score": 45}', (None, None)),
        ('{"correct": "yes", "score": -1}', (None, None)),
        ('{"correct": "yes", "score": "high"}', (None, None)),
        ("I am sorry.", (None, None)),
        ("", (None, None)),
    ],
)
def test_parse_verdict(reply, expected):
    assert parse_verdict(reply) == expected


class JudgeServer(HTTPServer):
    """Gives its answers one after the other, the last one again and again, and keeps what it was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, dict[str, str], dict[str, Any]]]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def say(self, *answers: str | int | tuple[int, dict[str, str], bytes]) -> None:
        """A text is what the judge replies, a number an HTTP status."""
        self.answers = []
        for answer in answers:
            if isinstance(answer, str):
                value = {"model": "judge-2", "choices": [{"message": {"role": "assistant", "content": answer}}]}
                answer = 200, {}, json.dumps(value).encode()
            self.answers.append((answer, {}, b"") if isinstance(answer, int) else answer)


class Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        answers = self.server.answers
        status, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer(("127.0.0.1", 0), Handler) as given:
        given.asked = []
        thread = threading.Thread(target=given.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield given
        given.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The pauses that were asked for, none of which is made."""
    given: list[float] = []
    monkeypatch.setattr(judge.time, "sleep", given.append)
    return given


def ask(server: JudgeServer, **options: Any) -> Verdict:
    return judge_one(Endpoint(server.base_url, "judge", **options), "What is it?", "dog", "a {puppy}")


def test_a_good_reply(server):
    server.say('{"correct": "yes", "score": 4}')
    verdict = ask(server, key="secret-key\n")
    assert (verdict.correct, verdict.score, verdict.model, verdict.readable) == (True, 4.0, "judge-2", True)
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret-key"
    assert body["model"] == "judge" and body["temperature"] == 0
    system, user = (message["content"] for message in body["messages"])
    assert "Question: What is it?\nCorrect answer: dog\nAnswer of the student: a {puppy}\n" in user
    assert verdict.prompt == f"{system}\n\n{user}" and verdict.reply == '{"correct": "yes", "score": 4}'
    assert Verdict(**json.loads(json.dumps(verdict.to_json()))) == verdict


def test_what_is_not_given_is_not_sent(server):
    server.say('{"correct": "no", "score": 0}')
    ask(server, temperature=None)
    _, headers, body = server.asked[0]
    assert "Authorization" not in headers and "temperature" not in body


@pytest.mark.parametrize(
    "answer",
    [
        "I would say that is right.",
        (200, {}, b"<html>no JSON</html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        (200, {}, b"[1, 2]"),
        (200, {}, b"\xff\xfe"),
    ],
)
def test_a_reply_that_cannot_be_read_counts_as_such(server, answer):
    server.say(answer)
    verdict = ask(server)
    assert (verdict.correct, verdict.score, verdict.readable) == (None, None, False)
    good = Verdict(True, 3.0, "m", "p", "r")
    scores = judge_scores([verdict, good, Verdict(False, 0.0, "m", "p", "r")])
    assert (scores.accuracy, scores.mean_score, scores.num_items, scores.num_unreadable) == (50, 1.5, 3, 1)
    assert math.isnan(judge_scores([verdict]).accuracy) and judge_scores([verdict]).num_unreadable == 1


def test_a_busy_endpoint_is_asked_again(server, waits):
    server.say(
        429, (503, {"Retry-After": "7"}, b""), (429, {"Retry-After": "3600"}, b""), '{"correct": "yes", "score": 5}'
    )
    assert ask(server, first_wait_s=2.0).correct
    assert len(server.asked) == 4 and waits == [2.0, 7.0, judge.LONGEST_WAIT_S]


def test_an_endpoint_that_stays_in_trouble(server, waits):
    server.say(500)
    with pytest.raises(SourceError, match=r"/v1/chat/completions gives no answer after 3 attempts: HTTP 500"):
        ask(server, attempts=3)
    assert len(server.asked) == 3 and waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (401, "HTTP 401 Unauthorized; the key it was given is not accepted. Put a valid key into the environment"),
        (403, "HTTP 403 Forbidden; the key it was given"),
        (
            (404, {}, b'{"error":\n "no such model"}'),
            'HTTP 404 Not Found {"error": "no such model"}. Check the address',
        ),
        ((302, {"Location": "http://127.0.0.1:9/steal"}, b""), "HTTP 302 Found; it points elsewhere. Give the address"),
        ((307, {"Location": "/elsewhere"}, b""), "it points elsewhere"),
    ],
)
def test_a_refusal_is_told_at_once_and_without_the_key(server, waits, answer, message):
    server.say(answer)
    with pytest.raises(InputError) as caught:
        ask(server, key="secret-key")
    assert message in str(caught.value) and "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.asked) == 1 and not waits


def test_a_missing_key_is_told(server):
    server.say(401)
    with pytest.raises(InputError, match="it was given no key"):
        ask(server)


def test_nobody_there(server, waits):
    url = server.base_url
    server.server_close()
    with pytest.raises(
        SourceError, match=f"{url}/chat/completions gives no answer after 2 attempts: .*refused"
    ) as caught:
        judge_one(Endpoint(url, "judge", attempts=2), "q", "a", "p")
    assert "Check the address" in caught.value.remedy and waits == [1.0]


def test_an_endpoint_that_never_answers(server, monkeypatch):
    monkeypatch.setattr(Handler, "do_POST", lambda self: threading.Event().wait(0.2))
    with pytest.raises(SourceError, match="timed out"):
        ask(server, timeout_s=0.05, attempts=1)


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "first")
    monkeypatch.setenv("OTHER", "second")
    assert Endpoint.from_environment("http://h/v1/", "m").key == "first"
    endpoint = Endpoint.from_environment("http://h/v1/", "m", "OTHER")
    assert endpoint.key == "second" and "second" not in repr(endpoint)
    assert endpoint.url == "http://h/v1/chat/completions"
    assert Endpoint.from_environment("http://h", "m", "NOT_THERE").key == ""


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://", "http:///v1", "https://a b", ""])
def test_an_address_must_be_one(url):
    with pytest.raises(InputError, match=r"is no address of a judge\. Give one like"):
        Endpoint(url, "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "https://me:secret@host/v1"}, "holds a user name"),
        ({"base_url": "https://host", "key": "secret\nX-Header: 1"}, "no key has"),
        ({"base_url": "https://host", "key": "sécret"}, "no key has"),
        ({"base_url": "https://host", "attempts": 0}, "0 times"),
    ],
)
def test_an_endpoint_must_make_sense(options, message):
    with pytest.raises(InputError, match=message) as caught:
        Endpoint(model="m", **options)
    assert "secret" not in str(caught.value)
