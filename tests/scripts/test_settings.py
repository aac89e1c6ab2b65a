"""Where a setting's value comes from, and what happens to names and values that are none."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import settings
from scripts.failure import Failed

NOWHERE = Path("/nowhere/config.toml")

VALUES = {
    "network": ["moths", "silk"],
    "node.roles": [("relay",), ("worker",)],
    "node.host": ["127.0.0.1", "::1"],
    "node.port": [1, 65_535],
    "node.announce": ["127.0.0.1", "::1"],
    "api.port": ["off", "8421"],
    "api.key_required": [False, False],
    "api.origins": [("http://localhost:3000",), ("http://localhost:3001", "http://moth.local")],
    "api.max_requests": [1, 1_024],
    "ask.model": ["a", "b"],
    "ask.relays": [0, 2],
    "ask.shaping": [0, 2],
    "ask.swift": [True, True],
    "ask.deadline": [1.0, 3_600.0],
    "ask.max_price": ["0.5 TON", "20n"],
    "ask.audit": [0.0, 1.0],
    "worker.model": ["a.gguf", "b.gguf"],
    "worker.slots": ["2", "16"],
    "worker.context": [256, 512],
    "worker.max_vram": [0.5, 1.0],
    "worker.max_ram": [0.5, 1.0],
    "worker.threads": [1, 256],
    "worker.idle_unload": [0.0, 60.0],
    "worker.label": ["a", "b"],
    "worker.price": ["0.001", "1 TON"],
    "worker.price_prompt": ["0.001", "1 TON"],
    "worker.allow_direct": [True, True],
    "worker.engine": ["fake", "fake"],
    "worker.fake_rate": [1.0, 2.5],
    "worker.seed": [1, 2],
    "worker.upstream": ["http://127.0.0.1:8080", "http://localhost:1"],
    "worker.upstream_model": ["moth", "silk"],
    "worker.upstream_remote": [True, True],
    "manners.on_battery": ["serve", "serve"],
    "manners.battery_min": [0.0, 50.0],
    "manners.max_temperature": [70.0, 95.5],
    "manners.yield_gpu": [False, False],
    "manners.yield_cpu": [False, False],
    "manners.quiet_hours": ["22:00-07:00", "09:30-17:00"],
    "manners.metered": ["serve", "serve"],
    "mint.fee_bp": [1, 2],
    "wallet.buy": ["yes", "ask"],
    "wallet.per_day": ["0.5 TON", "20n"],
    "wallet.passphrase_file": ["a", "b"],
    "wallet.backup_file": ["a", "b"],
    "log.level": ["debug", "error"],
    "log.format": ["console", "json"],
    "log.file": ["a", "b"],
}


def load(*, flags=None, environ=None, file=NOWHERE):
    return settings.load(flags=flags or {}, environ=environ or {}, file=file)


def value(loaded, name):
    part = loaded
    for word in name.split("."):
        part = getattr(part, word)
    return part


def as_text(value):
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_toml(name, value):
    section, _, field = name.rpartition(".")
    shown = f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)
    shown = shown.lower() if isinstance(value, bool) else shown
    return f"[{section}]\n{field} = {shown}\n" if section else f"{field} = {shown}\n"


def test_every_setting_has_values_to_try():
    assert settings.names() == list(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_flag_beats_environment_beats_file_beats_default(name, tmp_path):
    low, high = VALUES[name]
    file = tmp_path / "config.toml"
    file.write_text(as_toml(name, low))
    environ = {settings.variable(name): as_text(high)}

    plain, source = load()
    default = value(plain, name)
    assert source[name] == "default"
    assert value(load(file=file)[0], name) == low != default
    assert load(file=file)[1][name] == f"file {file}"

    found, source = load(environ=environ, file=file)
    assert value(found, name) == high
    assert source[name] == f"environment {settings.variable(name)}"

    found, source = load(flags={name: low}, environ=environ, file=file)
    assert value(found, name) == low
    assert source[name] == f"flag --{name}"


@given(st.sets(st.sampled_from(list(VALUES))), st.sets(st.sampled_from(list(VALUES))))
def test_each_setting_is_taken_from_the_first_layer_that_has_it(flagged, in_environment):
    flags = {name: VALUES[name][0] for name in flagged}
    environ = {settings.variable(name): as_text(VALUES[name][1]) for name in in_environment}
    found, source = load(flags=flags, environ=environ)
    plain, _ = load()
    for name in VALUES:
        expected = flags.get(name, VALUES[name][1] if name in in_environment else None)
        assert value(found, name) == (value(plain, name) if expected is None else expected)
        assert source[name].split()[0] == (
            "flag" if name in flagged else "environment" if name in in_environment else "default"
        )


def test_flag_that_was_not_given_is_no_flag():
    assert load(flags={"node.port": None})[0] == settings.Settings()


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ({"flags": {"ask.modle": "x"}}, "ask.model"),
        ({"environ": {"TUSSAH_ASK_MODLE": "x"}}, "TUSSAH_ASK_MODEL"),
    ],
)
def test_unknown_name_gets_the_nearest_known_one(given, near):
    with pytest.raises(Failed) as failed:
        load(**given)
    assert failed.value.failure.code == "invalid_setting"
    assert failed.value.failure.meaning.exit == 2
    assert failed.value.failure.advice == f"Did you mean {near}?"


@pytest.mark.parametrize("line", ["[ask]\nmodle = 1", "[aks]\nmodel = 'x'", "prot = 1"])
def test_unknown_key_in_the_file_names_the_file(line, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(line)
    with pytest.raises(Failed, match=str(file)):
        load(file=file)


@pytest.mark.parametrize("content", [b"[ask", b"\xff"])
def test_file_that_is_no_toml_is_refused(content, tmp_path):
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(Failed, match="cannot be read"):
        load(file=file)


def test_names_that_are_no_settings_are_left_alone():
    environ = {"TUSSAH_HOME": "x", "TUSSAH_PYTHON": "y", "PATH": "z"}
    assert load(environ=environ)[0] == settings.Settings()


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("ask.relays", "4"),
        ("ask.relays", "-1"),
        ("ask.relays", "three"),
        ("ask.relays", True),
        ("ask.relays", 1.5),
        ("ask.deadline", "nan"),
        ("ask.deadline", "soon"),
        ("ask.model", 5),
        ("node.port", 70_000),
        ("node.roles", "relay,bank"),
        ("ask.max_price", "1e3"),
        ("ask.max_price", "-1"),
        ("worker.price", "cheap"),
        ("worker.label", "\u00e9" * 17),
        ("node.roles", [1]),
        ("worker.engine", "steam"),
        ("worker.allow_direct", "perhaps"),
    ],
)
def test_value_out_of_its_bounds_is_refused_with_its_name(name, raw):
    with pytest.raises(Failed) as failed:
        load(flags={name: raw})
    assert failed.value.failure.param == name
    assert name in failed.value.failure.message


def test_settings_cannot_change_under_their_reader():
    with pytest.raises(AttributeError):
        settings.Settings().ask.model = "x"


def test_defaults_need_no_file_and_no_environment():
    found, _ = settings.load(flags={}, environ=os.environ, file=NOWHERE)
    assert asdict(found) == asdict(settings.Settings())


def test_a_number_may_stand_where_a_word_may(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[worker]\nslots = 4\nprice = 1\n[api]\nport = 8500\n")
    loaded, _ = load(file=file)
    assert (loaded.worker.slots, loaded.worker.price, loaded.api.port) == ("4", "1", "8500")
