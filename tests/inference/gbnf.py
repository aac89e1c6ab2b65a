"""Says something that a grammar allows, at random: an independent reader of GBNF, for tests."""

import re

TOKEN = re.compile(r'\s*(::=|"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{\d*,?\d*\}|[-\w]+|[()|?*+])')


def sentence(grammar, random, patience=60):
    """One sentence; alternatives that end soon are taken once `patience` rules are open."""
    rules = {}
    for line in grammar.splitlines():
        name, body = line.split(" ::= ", 1)
        rules[name] = _alternatives(_tokens(body))
    return _say(rules, rules["root"], random, [patience])


def _tokens(body):
    tokens, at = [], 0
    while at < len(body.rstrip()):
        found = TOKEN.match(body, at)
        assert found, body[at:]
        tokens.append(found[1])
        at = found.end()
    return tokens[::-1]


def _alternatives(tokens):
    branches, sequence = [], []
    while tokens and tokens[-1] != ")":
        token = tokens.pop()
        if token == "|":
            branches.append(sequence)
            sequence = []
            continue
        item = token
        if token == "(":
            item = _alternatives(tokens)
            assert tokens.pop() == ")"
        low, high = _times(tokens)
        sequence.append((item, low, high))
    return [*branches, sequence]


def _times(tokens):
    if not tokens or (tokens[-1] not in ("?", "*", "+") and not tokens[-1].startswith("{")):
        return 1, 1
    mark = tokens.pop()
    if mark in ("?", "*", "+"):
        return {"?": (0, 1), "*": (0, None), "+": (1, None)}[mark]
    low, _, high = mark[1:-1].partition(",")
    return int(low or 0), (int(low) if "," not in mark else int(high) if high else None)


def _say(rules, branches, random, patience):
    patience[0] -= 1
    tired = patience[0] < 0
    branch = min(branches, key=lambda one: _weight(one)) if tired else random.choice(branches)
    words = []
    for item, low, high in branch:
        most = low if tired else min(low + 3, low + 3 if high is None else high)
        for _ in range(random.randint(low, most)):
            words.append(_item(rules, item, random, patience))
    return "".join(words)


def _weight(branch):
    return sum(
        low * (1 if isinstance(item, str) and item[0] in '"[' else 9) for item, low, _ in branch
    )


def _item(rules, item, random, patience):
    if not isinstance(item, str):
        return _say(rules, item, random, patience)
    if item.startswith('"'):
        return _unescaped(item[1:-1])
    if item.startswith("["):
        return random.choice(_characters(item[1:-1]))
    return _say(rules, rules[item], random, patience)


def _characters(body):
    if body.startswith("^"):
        return "az A0\u20ac\U0001f9f5{}[]:,"
    body = _unescaped(body)
    spans = re.findall(r"(.)-(.)", body, re.DOTALL)
    single = re.sub(r".-.", "", body, flags=re.DOTALL)
    return single + "".join(chr(code) for a, b in spans for code in range(ord(a), ord(b) + 1))


def _unescaped(text):
    return re.sub(
        r"\\(.)",
        lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]),
        text,
        flags=re.DOTALL,
    )
