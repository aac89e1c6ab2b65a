"""Schemas as grammars: whatever the grammar lets through is an instance, judged by jsonschema."""

import json
import random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.schema import MAX_GRAMMAR, Unusable, calls_of, grammar_of
from tests.inference import gbnf

PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "age": {"type": "integer", "minimum": 18, "maximum": 130},
        "mail": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "tags": {
            "type": "array",
            "items": {"enum": ["a", 'q"\\', 3]},
            "minItems": 1,
            "maxItems": 3,
        },
        "born": {"type": "string", "format": "date"},
        "friends": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["age", "name", "other"],
    "additionalProperties": False,
}
PERSON["properties"]["other"] = {"const": {"x": [1, None, True]}}

SCHEMAS = [
    True,
    {},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a": {}, "b": {"type": "null"}}},
    {"type": ["integer", "boolean"]},
    {"type": "integer", "exclusiveMinimum": -37, "exclusiveMaximum": 1204},
    {"type": "integer", "maximum": -9},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "minimum": -2.5, "exclusiveMaximum": 3},
    {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
    {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {}]},
    {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "array", "items": True}]},
    {"$defs": {"t": {"anyOf": [{}, {"type": "array", "items": {"$ref": "#/$defs/t"}}]}},
     "$ref": "#/$defs/t"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "date-time"},
    PERSON,
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_what_a_grammar_says_is_an_instance(schema):
    grammar = grammar_of(schema)
    assert isinstance(grammar, str)
    chance = random.Random(7)
    for _ in range(40):
        instance = json.loads(gbnf.sentence(grammar, chance))
        jsonschema.validate(instance, schema)


bounds = st.none() | st.integers(-2_000, 2_000)


@settings(max_examples=60)
@given(bounds, bounds, st.sampled_from(["integer", "number"]), st.integers())
def test_numbers_stay_within_their_bounds(low, high, kind, seed):
    given_ = {"minimum": low, "maximum": high}
    schema = {"type": kind, **{word: value for word, value in given_.items() if value is not None}}
    grammar = grammar_of(schema)
    if low is not None and high is not None and low > high:
        assert isinstance(grammar, Unusable)
        return
    chance = random.Random(seed)
    for _ in range(10):
        jsonschema.validate(json.loads(gbnf.sentence(grammar, chance)), schema)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "string", "pattern": "a+"}, "/pattern"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "/properties/a/not"),
        ({"type": "array", "uniqueItems": True}, "/uniqueItems"),
        ({"type": "array", "minItems": 5, "maxItems": 4}, "#"),
        ({"type": "integer", "multipleOf": 7}, "/multipleOf"),
        ({"type": "text"}, "/type"),
        ({"$ref": "https://example.org/schema.json"}, "/$ref"),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"enum": []}, "/enum"),
        ({"anyOf": "x"}, "/anyOf"),
        (False, "#"),
        ({"type": "object", "required": 3}, "#"),
        ({"type": "object", "maxProperties": 1, "properties": {"a": {}, "b": {}}}, "#"),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused_by_its_place(schema, place):
    result = grammar_of(schema)
    assert isinstance(result, Unusable)
    assert result.place == place


def test_calls_are_one_of_the_tools_with_its_own_arguments():
    node = {"$defs": {"n": {"enum": [1, 2]}}, "type": "object", "required": ["x"]}
    node["properties"] = {"x": {"$ref": "#/$defs/n"}}
    calls = calls_of([("a", json.dumps(node)), ("b", '{"additionalProperties":false}')])
    grammar, chance = grammar_of(calls, "<", "\n>"), random.Random(7)
    for _ in range(20):
        said = gbnf.sentence(grammar, chance)
        assert (said[0], said[-2:]) == ("<", "\n>")
        call = json.loads(said[1:-2])
        assert call["name"] in ("a", "b")
        jsonschema.validate(call["arguments"], node if call["name"] == "a" else {"const": {}})


def test_tools_whose_schema_is_too_deep_are_refused():
    deep = '{"items":' * 900 + "{}" + "}" * 900
    assert isinstance(calls_of([("a", deep)]), Unusable)


def test_a_schema_that_unrolls_into_too_much_is_refused():
    wide = {"type": "object", "properties": {f"p{n}": {"enum": ["x" * 90]} for n in range(900)}}
    many = {"type": "object", "properties": {f"p{n}": {} for n in range(1_100)}}
    for schema in (wide, many):
        assert isinstance(grammar_of(schema), Unusable)
    assert len(grammar_of(PERSON)) < MAX_GRAMMAR
