"""/metrics, read by the reference parser."""

import urllib.request

import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

ASK = [{"role": "user", "content": "What is the capital of France?"}]


def scrape(service):
    with urllib.request.urlopen(service.base + "/metrics", timeout=10) as reply:
        assert reply.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        text = reply.read().decode()
    # Refuses wrong order, names, types, units, buckets and a missing end.
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families, sample, **labels):
    values = [
        found.value
        for family in families.values()
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    ]
    return sum(values)


def test_what_clients_did_is_counted(service, client):
    before = scrape(service)
    for _ in range(2):
        client.chat.completions.create(model="any", messages=ASK, max_tokens=8, temperature=0)
    for _ in client.chat.completions.create(model="any", messages=ASK, max_tokens=8, stream=True, temperature=0):
        pass
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="any", messages=ASK, temperature=7)
    after = scrape(service)

    def grown(sample, **labels):
        return value(after, sample, **labels) - value(before, sample, **labels)

    requests = {"dialect": "openai", "model": "smollm2-135m"}
    assert grown("llm8850_requests_total", outcome="answered", **requests) == 3
    assert grown("llm8850_requests_total", outcome="client_error", **requests) == 1
    assert grown("llm8850_queue_wait_seconds_count") == 3
    assert grown("llm8850_first_token_seconds_count") == 3
    assert grown("llm8850_prefix_hits_total") >= 2
    assert 0 < grown("llm8850_prefix_tokens_total") < grown("llm8850_prompt_tokens_total")
    tokens = grown("llm8850_generated_tokens_total")
    assert grown("llm8850_token_seconds_count") == tokens - 3 > 3


def test_families_have_types_units_and_help(service):
    families = scrape(service)
    assert all(family.documentation.endswith(".") for family in families.values())
    assert families["llm8850_state"].type == "gauge"
    assert {sample.labels["state"]: sample.value for sample in families["llm8850_state"].samples}["ready"] == 1
    assert value(families, "llm8850_state") == 1
    assert value(families, "llm8850_ready") == 1
    assert families["llm8850_first_token_seconds"].type == "histogram"
    assert families["llm8850_first_token_seconds"].unit == "seconds"
    assert families["llm8850_requests"].type == "counter"
    assert families["llm8850_build"].type == "info"
    assert 1e6 < value(families, "process_resident_memory_bytes") < 1e9
    assert 5 < value(families, "process_open_fds") < 1000
    assert value(families, "process_cpu_seconds_total") > 0


def test_a_client_s_words_are_no_labels(service, client):
    client.chat.completions.create(model="a-name-of-mine", messages=ASK, max_tokens=1)
    families = scrape(service)
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels.values()}
    assert "a-name-of-mine" not in labels
    assert sum(len(family.samples) for family in families.values()) < 500
