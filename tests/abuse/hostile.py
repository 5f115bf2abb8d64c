"""What hostile and broken clients do. Each kind goes on for about so many seconds, and says what it saw."""

import collections
import errno
import json
import random
import socket
import time

# Other machines than the well-behaved clients', as far as the service can tell.
STRANGER = "127.66.0.1"
CHAT = "/v1/chat/completions"
# The default of limits.body_bytes.
BODY_BYTES = 2 << 20
GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, TimeoutError)


class Target:
    """Where the service listens, and what it says to a known question."""

    def __init__(self, address, question, answer):
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.question, self.answer = question, answer
        self.chance = random.Random(1)

    def connect(self, source=STRANGER, received=None):
        s = socket.socket()
        s.settimeout(60)
        if received:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
        s.bind((source, 0))
        s.connect(self.address)
        return s

    def chat(self, **changes):
        return request("POST", CHAT, json.dumps(self.question | changes).encode())

    def says(self, sent, shut=False):
        """All that comes back until the service closes. What it does not take any more is kept."""
        with self.connect() as s:
            try:
                s.sendall(sent)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except GONE:
                pass
            return rest(s)


def request(method, path, body=b"", close=True, extra=""):
    ending = "connection: close\r\n" if close else ""
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: t\r\n{ending}{length}{extra}\r\n".encode() + body


def rest(s):
    said = b""
    try:
        while part := s.recv(65536):
            said += part
    except GONE:
        pass
    return said


def statuses(said):
    """The status of each response in a row."""
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:] if part[:3] != b"100"]


def content(said):
    """The text of one whole chat completion."""
    return json.loads(said.split(b"\r\n\r\n")[-1])["choices"][0]["message"]["content"]


def expect(found, wanted, what):
    assert found in wanted, f"{what}: {found}, not one of {wanted}"


def takes(s, sent):
    """Whether all of it could be sent."""
    try:
        s.sendall(sent)
        return True
    except GONE:
        return False


def crowd(target, count, seconds, greeting, more=b"", sources=(STRANGER,)):
    """Keeps `count` connections open. Each says its greeting, then a byte now and then."""
    end = time.monotonic() + seconds
    open_, closed, tried = collections.deque(), 0, 0
    while time.monotonic() < end:
        while len(open_) < count and time.monotonic() < end:
            s = target.connect(sources[tried % len(sources)])
            tried += 1
            s.setblocking(False)
            try:
                s.send(greeting)
            except GONE:
                pass
            open_.append(s)
        for _ in range(min(50, len(open_))):
            s = open_.popleft()
            try:
                if more:
                    s.send(more)
                s.recv(1)
                closed += 1
                s.close()
            except BlockingIOError:
                open_.append(s)
            except OSError as error:
                if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                    raise
                closed += 1
                s.close()
        time.sleep(0.05)
    for s in open_:
        s.close()
    return f"{tried} connections, {closed} closed by the service"


def slow_heads(target, seconds):
    return crowd(target, 400, seconds, b"GET /livez HTTP/1.1\r\nx-slow: ", b"x")


def idle_connections(target, seconds):
    return crowd(target, 2000, seconds, b"")


def idle_connections_of_many_addresses(target, seconds):
    return crowd(target, 2000, seconds, b"", sources=[f"127.66.{n // 200}.{n % 200 + 1}" for n in range(2000)])


def idle_after_a_request(target, seconds):
    return crowd(target, 400, seconds, request("GET", "/livez", close=False))


def bodies_that_do_not_come(target, seconds):
    head = request("POST", CHAT, close=False, extra=f"content-length: {BODY_BYTES}\r\n")
    return crowd(target, 300, seconds, head + b"{", b" ")


def slow_readers(target, seconds):
    """Answers with twenty alternatives per token, and other long documents, taken byte by byte."""
    chat = target.chat(stream=True, max_tokens=60, logprobs=True, top_logprobs=20)
    log = request("GET", "/openapi.json", close=False) * 20
    readers = [target.connect(received=2048) for _ in range(60)]
    for number, s in enumerate(readers):
        s.sendall(log if number % 3 else chat)
        s.setblocking(False)
    end, taken = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for s in readers:
            try:
                taken += len(s.recv(1))
            except (BlockingIOError, *GONE):
                pass
        time.sleep(0.1)
    for s in readers:
        s.close()
    return f"{len(readers)} readers took {taken} bytes"


def large_bodies(target, seconds):
    """100 MB, announced or in chunks, as few or as many as there are; eight at a time."""
    megabyte = b"x" * (1 << 20)
    chunk = b"%x\r\n%s\r\n" % (len(megabyte), megabyte)
    announced = request("POST", CHAT, extra=f"content-length: {100 << 20}\r\n", close=False)
    chunked = request("POST", CHAT, extra="transfer-encoding: chunked\r\n", close=False)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        senders = [(target.connect(), head) for head in (announced, chunked) * 4]
        for s, head in senders:
            s.sendall(head)
        taking = senders
        for _ in range(100):
            taking = [(s, head) for s, head in taking if takes(s, megabyte if head == announced else chunk)]
        for s, _ in senders:
            # Who is still sending when it is refused may not hear of it.
            expect(statuses(rest(s)), ([413], [429], []), "100 MB")
            s.close()
            count += 1
        # As large as is taken, in pieces of one byte.
        tiny = b"1\r\nx\r\n" * (BODY_BYTES // 8)
        expect(statuses(target.says(chunked + tiny + b"0\r\n\r\n", shut=True)), ([400],), "a body in single bytes")
        expect(statuses(target.says(announced, shut=True)), ([413],), "100 MB announced")
    return f"{count} bodies of 100 MB refused"


def large_conversations(target, seconds):
    """As long as is taken, in one message and in many, one answer or several; eight at a time."""
    words = "The coyote looked at the moon again. " * (BODY_BYTES // 40)
    turns = [{"role": role, "content": words[:2000]} for _ in range(BODY_BYTES // 4500) for role in ("user", "assistant")]
    asked = [
        target.chat(messages=messages, n=n)
        for messages in ([{"role": "user", "content": words}], turns + turns[:1])
        for n in (1, 4)
    ]
    end, count = time.monotonic() + seconds, collections.Counter()
    while time.monotonic() < end:
        senders = [target.connect() for _ in range(8)]
        for number, s in enumerate(senders):
            try:
                s.sendall(asked[number % 4])
            except GONE:
                pass
        for s in senders:
            found = statuses(rest(s))
            expect(found, ([200], [400], [429], []), "a large conversation")
            count.update(found)
            s.close()
    return f"large conversations: {dict(count)}"


def wrong_json(target, seconds):
    deep = b"[" * 10_000 + b"]" * 10_000
    question = json.dumps(target.question).encode()
    wrong = {
        "nested": deep,
        "nested in a message": b'{"model":"m","messages":' + deep + b"}",
        "nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "not UTF-8": question.replace(b"messages", b"mess\xff\xfeges"),
        "not UTF-8 in text": b'{"model":"m","messages":[{"role":"user","content":"\xc3\x28\xa0"}]}',
        "half a pair": b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        "cut off": question[: len(question) // 2],
        "two": question + question,
        "byte order mark": b"\xef\xbb\xbf" + question,
        "UTF-16": question.decode().encode("utf-16"),
        "zero bytes": b"\0" * 1000,
        "huge number": b'{"model":"m","max_tokens":' + b"9" * 100_000 + b',"messages":[]}',
        "endless string": b'{"model":"' + b"x" * 1_000_000,
        "a list": b"[1,2,3]",
        "nothing": b" ",
    }
    many = b'{"model":"m","messages":[' + b"0," * (BODY_BYTES // 2 - 100) + b"0]}"
    keys = b'{"model":"m",' + b",".join(b'"%x":0' % n for n in range(BODY_BYTES // 12)) + b"}"
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for name, body in wrong.items():
            for path in (CHAT, "/api/chat", "/v1/responses", "/v1/completions"):
                expect(statuses(target.says(request("POST", path, body))), ([400],), name)
                count += 1
        for body in (many, keys):
            expect(statuses(target.says(request("POST", CHAT, body))), ([413],), "very many values")
            count += 1
    return f"{count} refused"


def half_closed(target, seconds):
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        said = target.says(target.chat(), shut=True)
        assert content(said) == target.answer, said
        said = target.says(target.chat(stream=True), shut=True)
        assert said.rstrip().endswith(b"0") and b"[DONE]" in said, said
        expect(statuses(target.says(request("GET", "/v1/status"), shut=True)), ([200],), "status")
        count += 3
    return f"{count} answered"


def cut_anywhere(target, seconds):
    end, count = time.monotonic() + seconds, 0
    chats = [target.chat(), target.chat(stream=True, max_tokens=200)]
    while time.monotonic() < end:
        for chat in chats:
            with target.connect() as s:
                s.sendall(chat[: target.chance.randrange(len(chat))])
            with target.connect() as s:
                s.sendall(chat)
                s.settimeout(target.chance.random() / 2)
                try:
                    s.recv(target.chance.randrange(1, 2000))
                except GONE:
                    pass
                if target.chance.random() < 0.5:
                    # A reset instead of an end.
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            count += 2
    return f"{count} connections cut"


def pipelined(target, seconds):
    end, count = time.monotonic() + seconds, 0
    mixed = request("GET", "/livez", close=False) * 20 + request("GET", "/v1/models", close=False) * 20
    while time.monotonic() < end:
        said = target.says(mixed + target.chat())
        assert statuses(said) == [200] * 41, statuses(said)
        assert content(said) == target.answer, said
        count += 41
    return f"{count} answered in order"


def header_floods(target, seconds):
    end, count = time.monotonic() + seconds, 0
    many = request("GET", "/livez", extra="".join(f"x-{n}: y\r\n" for n in range(1000)))
    long = request("GET", "/livez", extra=f"x: {'y' * (1 << 20)}\r\n")
    path = request("GET", "/" + "y" * (1 << 20))
    while time.monotonic() < end:
        for sent in (many, long, path, b"GET /livez HTTP/1.1\r\n" + b"x: y\r\n" * 1_000_000):
            # Who is still sending when it is refused may not hear of it.
            expect(statuses(target.says(sent)), ([431], [414], [400], []), "a flood of headers")
            count += 1
    return f"{count} refused"


def nonsense(target, seconds):
    hello = bytes.fromhex("16030100a5010000a10303") + bytes(160)
    lines = [
        hello,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/3.0\r\nhost: t\r\n\r\n",
        b"GET /livez HTTP/1.1.1\r\n\r\n",
        b"G\0T /livez HTTP/1.1\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nx: a\0b\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
        b"\r\n\r\n\r\n\r\nHELO x\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]
    methods = [("BREW", 405), ("CONNECT", 405), ("TRACE", 405), ("PUT", 405), ("DELETE", 405)]
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for sent in lines:
            expect(statuses(target.says(sent, shut=True)), ([400], []), sent[:30])
            count += 1
        for method, status in methods:
            expect(statuses(target.says(request(method, "/v1/models"))), ([status],), method)
            count += 1
        noise = target.chance.randbytes(target.chance.randrange(1, 5000))
        expect(statuses(target.says(noise, shut=True)), ([400], [431], []), "noise")
    return f"{count} refused"


def smuggling(target, seconds):
    """Requests whose length two servers could read differently: nothing after them is taken for a request."""
    hidden = b"GET /v1/hidden HTTP/1.1\r\nhost: t\r\n\r\n"
    chunked = b"0\r\n\r\n"
    shapes = {
        "both": ("content-length: 4\r\ntransfer-encoding: chunked\r\n", chunked),
        "both, other order": ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", chunked),
        "two lengths": ("content-length: 0\r\ncontent-length: 40\r\n", b""),
        "signed length": ("content-length: +0\r\n", b""),
        "negative length": ("content-length: -1\r\n", b""),
        "list of lengths": ("content-length: 0, 40\r\n", b""),
        "unknown coding": ("transfer-encoding: xchunked\r\n", chunked),
        "chunked not last": ("transfer-encoding: chunked, identity\r\n", chunked),
        "space before colon": ("transfer-encoding : chunked\r\n", chunked),
        "folded": ("transfer-encoding:\r\n chunked\r\n", chunked),
        "chunk too long": ("transfer-encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        "chunk's sign": ("transfer-encoding: chunked\r\n", b"-0\r\n\r\n"),
        "chunk's prefix": ("transfer-encoding: chunked\r\n", b"0x0\r\n\r\n"),
    }
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for name, (headers, body) in shapes.items():
            said = target.says(request("POST", CHAT, close=False, extra=headers) + body + hidden, shut=True)
            expect(statuses(said), ([400],), name)
            assert b"hidden" not in said, f"{name}: {said}"
            count += 1
    return f"{count} refused"


KINDS = [
    slow_heads,
    idle_connections,
    idle_connections_of_many_addresses,
    idle_after_a_request,
    bodies_that_do_not_come,
    slow_readers,
    large_bodies,
    large_conversations,
    wrong_json,
    half_closed,
    cut_anywhere,
    pipelined,
    header_floods,
    nonsense,
    smuggling,
]
