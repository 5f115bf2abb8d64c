"""Continuous requests from the official clients, each answer compared with the fault-free one."""

import json
import threading
import time

import httpx
import ollama
import openai

PROMPTS = [
    "Tell me about the moon.",
    "What does a coyote eat?",
    "Count from one to ten.",
    "Write a short poem about rain.",
    "Why is the sky blue?",
    "Name three rivers.",
    "What is a Raspberry Pi?",
    "Tell me a story about an old lighthouse.",
]
TOKENS = 24


class Refused(Exception):
    """The service said that it cannot answer now: asked again later."""


class Disconnected(Exception):
    """The connection broke."""


class Ended(Exception):
    """The answer ended with a proper error."""


def body(prompt, stream):
    messages = [{"role": "user", "content": prompt}]
    return dict(model="demo", messages=messages, temperature=0, max_tokens=TOKENS, stream=stream)


class OpenAi:
    """Asks through the official openai package."""

    def __init__(self, base):
        self.client = openai.OpenAI(base_url=base + "/v1", api_key="unused", timeout=320, max_retries=0)

    def ask(self, prompt, stream):
        try:
            reply = self.client.chat.completions.create(**body(prompt, stream))
            if not stream:
                return reply.choices[0].message.content, reply.choices[0].finish_reason
            text, finish = [], None
            for chunk in reply:
                for choice in chunk.choices:
                    text.append(choice.delta.content or "")
                    finish = choice.finish_reason or finish
            return "".join(text), finish
        except openai.APIStatusError as error:
            if error.status_code in (429, 503):
                raise Refused(str(error)) from error
            raise Ended(str(error)) from error
        except openai.APIConnectionError as error:
            raise Disconnected(f"{error!r} {error.__cause__!r}") from error
        except openai.APIError as error:
            raise Ended(str(error)) from error


class Ollama:
    """Asks through the official ollama package."""

    def __init__(self, base):
        self.client = ollama.Client(host=base, timeout=320)

    def ask(self, prompt, stream):
        asked = body(prompt, stream)
        options = {"temperature": 0, "num_predict": TOKENS}
        try:
            reply = self.client.chat("demo", asked["messages"], stream=stream, options=options)
            parts = list(reply) if stream else [reply]
        except ollama.ResponseError as error:
            if error.status_code in (429, 503):
                raise Refused(str(error)) from error
            raise Ended(str(error)) from error
        except httpx.TransportError as error:
            raise Disconnected(repr(error)) from error
        except ConnectionError as error:
            raise Disconnected(repr(error)) from error
        if not parts or not parts[-1].done:
            raise Disconnected("a stream without its last line")
        return "".join(part.message.content or "" for part in parts), parts[-1].done_reason


class Load:
    """Threads that ask, `think` seconds after each answer, and keep account of every request."""

    def __init__(self, appliance, threads, think=0):
        self.appliance = appliance
        self.think = think
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.expected = {}
        self.counts = {"answered": 0, "refused": 0, "ended": 0, "interrupted": 0, "lost": 0, "altered": 0, "reconnected": 0}
        self.problems = []
        self.latencies = []
        self.threads = threads
        self.running = []

    def learn(self):
        """The fault-free answers."""
        for prompt in PROMPTS:
            whole = OpenAi(self.appliance.base).ask(prompt, False)
            for make in self.clients():
                for stream in (False, True):
                    got = make(self.appliance.base).ask(prompt, stream)
                    assert got == whole, f"{make.__name__} stream={stream}: {prompt}: {got}, not {whole}"
            assert whole[0], f"{prompt}: no text"
            self.expected[prompt] = whole

    def start(self):
        kinds = [(make, stream) for make in self.clients() for stream in (False, True)]
        for number in range(self.threads):
            make, stream = kinds[number % len(kinds)]
            thread = threading.Thread(target=self.work, args=(make, stream, number), daemon=True)
            thread.start()
            self.running.append(thread)

    @staticmethod
    def clients():
        return [OpenAi, Ollama]

    def work(self, make, stream, number):
        client = make(self.appliance.base)
        while not self.stopping.is_set():
            prompt = PROMPTS[number % len(PROMPTS)]
            number += 1
            self.one(client, prompt, stream)
            self.stopping.wait(self.think)

    def one(self, client, prompt, stream):
        """One request until it is answered; what befalls it on the way is counted."""
        while not self.stopping.is_set():
            down_before = self.appliance.going_down.is_set()
            restarts = self.appliance.restarts
            began = time.monotonic()
            try:
                answer = client.ask(prompt, stream)
            except Refused:
                self.count("refused")
            except Ended as error:
                # Before the host's restart every request is told so; elsewhere none may end.
                what = "interrupted" if "E-INTERRUPTED" in str(error) else "ended"
                self.count(what, f"{prompt} stream={stream}: {error}")
            except Disconnected as error:
                self.disconnected(down_before, restarts, f"{prompt} stream={stream}: {error}")
            else:
                whole = answer == self.expected[prompt]
                self.latencies.append(time.monotonic() - began)
                return self.count("answered" if whole else "altered", None if whole else f"{prompt}: {answer}")
            self.stopping.wait(0.05)

    def disconnected(self, down_before, restarts, what):
        """A connection may only be lost with the host that held it."""
        host = down_before or self.appliance.going_down.is_set() or self.appliance.restarts != restarts
        self.count("reconnected" if host else "lost", None if host else what)

    def count(self, what, problem=None):
        with self.lock:
            self.counts[what] += 1
            if problem and what in ("ended", "lost", "altered"):
                self.problems.append(f"{what}: {problem}")

    def stop(self):
        self.stopping.set()
        for thread in self.running:
            thread.join(60)
        return json.loads(json.dumps(self.counts))
