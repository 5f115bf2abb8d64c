"""A service that asks for keys, as the official clients send them."""

import subprocess

import ollama
import openai
import pytest
import requests

from conftest import OUT, Service

ASK = [{"role": "user", "content": "Hi"}]


def make_key(name):
    """A key, and its lines of configuration."""
    program = [OUT / "llm8850-supervisor", "--make-key", name]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    return said.split()[0], said[said.index("[[access.key]]") :]


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    (key, entry), (admin, more) = make_key("wall"), make_key("technician")
    running = Service(tmp_path_factory.mktemp("locked"), f"{entry}{more}admin = true\n")
    running.key, running.admin = key, admin
    yield running
    running.stop()


def test_openai(locked):
    def client(key):
        return openai.OpenAI(base_url=locked.base + "/v1", api_key=key, max_retries=0)

    reply = client(locked.key).chat.completions.create(model="any", messages=ASK, max_tokens=4)
    assert reply.choices[0].finish_reason == "length"
    assert client(locked.key).models.list().data
    with pytest.raises(openai.AuthenticationError) as refused:
        client(locked.key + "x").chat.completions.create(model="any", messages=ASK)
    assert refused.value.code == "invalid_api_key" and locked.key not in str(refused.value)
    with pytest.raises(openai.AuthenticationError):
        client("unused").models.list()


def test_azure(locked):
    def client(key):
        return openai.AzureOpenAI(azure_endpoint=locked.base, api_key=key, api_version="2024-10-21", max_retries=0)

    reply = client(locked.key).chat.completions.create(model="any", messages=ASK, max_tokens=4)
    assert reply.choices[0].finish_reason == "length"
    with pytest.raises(openai.AuthenticationError):
        client("unused").chat.completions.create(model="any", messages=ASK)


def test_ollama(locked):
    def client(key):
        return ollama.Client(host=locked.base, headers={"Authorization": f"Bearer {key}"})

    reply = client(locked.key).chat(model="any", messages=ASK, options={"num_predict": 4})
    assert reply.done_reason == "length"
    with pytest.raises(ollama.ResponseError) as refused:
        client("unused").chat(model="any", messages=ASK)
    assert refused.value.status_code == 401 and "API key" in refused.value.error
    with pytest.raises(ollama.ResponseError) as refused:
        client(locked.key).delete("any")
    assert refused.value.status_code == 403


def test_plain_http(locked):
    def status(path, **options):
        return requests.get(locked.base + path, timeout=60, **options).status_code

    assert status("/v1/models", auth=("anybody", locked.key)) == 200
    assert status("/v1/models", headers={"x-api-key": locked.key}) == 200
    assert status("/v1/models", auth=(locked.key, "")) == 401
    assert status("/v1/status") == 200
    assert status("/v1/logs", auth=("anybody", locked.key)) == 403
    assert status("/v1/logs", auth=("anybody", locked.admin)) == 200
