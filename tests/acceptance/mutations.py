"""Sound CNI calls and what hostile hands make of them: wrong types, depth, length, bytes that are no text."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from cni import wire
from cni.wishes import ANNOTATIONS

Document = dict[str, Any]
Place = tuple[str | int, ...]

CONF: Document = {"cniVersion": "1.1.0", "name": "pods", "type": "moorage", "network": "prod"}
ENV = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;IP=10.20.0.5",
}
NEW = {
    "CNI_CONTAINERID": "c2",
    "CNI_NETNS": "/run/netns/c2",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;MAC=02:00:00:00:00:05",
}
"""What ADD and DEL have other than ENV: a container of their own, for `c1` stays attached for CHECK."""
PREVIOUS: Document = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "mo0123456789abc", "mac": "0e:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "0a:58:0a:14:00:0a", "mtu": 1500, "sandbox": "/run/netns/c1"},
    ],
    "ips": [{"address": "10.20.0.10/24", "gateway": "10.20.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.20.0.1"}],
    "dns": {"nameservers": ["10.20.0.53"], "search": ["shop.example"]},
}
WISHES: Document = {
    "runtimeConfig": {"ips": ["10.20.0.10/24"], "mac": "02:00:00:00:00:05"},
    "args": {"cni": {"ips": ["10.20.0.10"], "mac": "02:00:00:00:00:06"}, "labels": [{"a": "b"}]},
    "capabilities": {"ips": True, "mac": True},
}
ANNOTATED: Document = {
    "runtimeConfig": {
        ANNOTATIONS: {
            "moorage.io/network": "prod",
            "moorage.io/pool": "web",
            "moorage.io/ip": "10.20.0.10, 10.20.0.11",
            "moorage.io/mac": "02:00:00:00:00:05",
            "moorage.io/ip.net1": "10.20.0.12",
            "team": "shop",
        }
    }
}
BY_ARGS: Document = {"args": WISHES["args"]}
DELEGATED: Document = {
    "cniVersion": "1.1.0",
    "name": "pods",
    "type": "bridge",
    "bridge": "cni0",
    "ipam": {"type": "moorage", "network": "prod", "pool": "web"},
}
VALID: Document = {
    "cni.dev/valid-attachments": [
        {"containerID": "c1", "ifname": "eth0"},
        {"containerID": "c2", "ifname": "net1"},
    ]
}
SOUND: tuple[tuple[str, Document], ...] = (
    ("ADD", CONF),
    ("ADD", CONF | {"prevResult": PREVIOUS}),
    ("ADD", CONF | WISHES),
    ("ADD", CONF | ANNOTATED),
    ("ADD", CONF | BY_ARGS),
    ("ADD", DELEGATED),
    ("CHECK", CONF | {"prevResult": PREVIOUS}),
    ("CHECK", CONF | ANNOTATED | {"prevResult": PREVIOUS}),
    ("DEL", CONF | WISHES | {"prevResult": PREVIOUS}),
    ("GC", CONF | VALID),
    ("STATUS", CONF),
    ("VERSION", CONF),
)
"""Verbs and the configurations they are called with."""
_WEIGHED = [item for item in SOUND for _ in range(4 if item[1] is not CONF else 1)]
"""Those with more to mutate come up more often."""

_RAW: dict[str, bytes] = {
    "@deep": b"[" * 5000 + b"]" * 5000,
    "@deep object": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "@huge": b"9" * 5000,
    "@infinite": b"1e999",
    "@nan": b"NaN",
    "@bytes": b'"\xff\xfe"',
    "@nul": b'"a\0b"',
    "@half": b'"\\ud800"',
    "@twice": b'{"a":1,"a":[2]}',
}
"""What `json.dumps` does not write, by the text that stands for it."""
_OF_EACH_TYPE = (None, True, 7, 0.5, "x", [], {}, [7], [[]], {"a": 7}, "@nan", "@half")
_HOSTILE = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**31, 2**64, 10**300, -1.5, 1e308),
        *("", " ", ".", "..", "/", "0", "eth0", "prod", "1.0.0", "x" * 300, "é" * 1000, "x" * 70_000),
        *(
            "not found",
            "No Such File Or Directory",
            "a\nb",
            "\u202e",
            "10.20.0.10",
            "::ffff:1.2.3.4",
            "fe80::1%1",
        ),
        *("10.20.0.10/33", "0.0.0.0/0", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", ",", "10.20.0.10,," * 70),
        *([], {}, [None], [[]], [{}], {"": ""}, ["10.20.0.10"] * 65, [0] * 1000),
        *_RAW,
    ]
) | st.text(max_size=12)
_NAMES = st.sampled_from(
    [
        *("", "cniVersion", "name", "network", "pool", "prevResult", "interfaces", "ips", "interface", "mac"),
        *(
            "runtimeConfig",
            "args",
            "cni",
            "cni.dev/attachments",
            "moorage.io/",
            "moorage.io/ip.",
            "moorage.io/x",
        ),
        *("moorage.io/pool.eth0", "not found", "x" * 3000, "\u0000", "é"),
    ]
)


def _places(value: Any, here: Place = ()) -> Iterator[Place]:
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*here, index))


def retyped(sound: Document) -> Iterator[tuple[str, bytes]]:
    """`sound` with each of its places, one at a time, of each type there is; and what was done."""
    for *path, last in filter(None, _places(sound)):
        for value in _OF_EACH_TYPE:
            document: Any = deepcopy(sound)
            holder = document
            for step in path:
                holder = holder[step]
            holder[last] = value
            yield f"{[*path, last]} = {value!r}", written(document)


def written(document: Any, *, ascii_only: bool = True) -> bytes:
    """`document` as JSON, or what is nearly that."""
    text = json.dumps(document, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name).encode(), raw)
    return text


@st.composite
def documents(draw: st.DrawFn, sound: Document) -> Document | Any:
    """`sound` with one to three of its places taken away, renamed, wrapped or made something hostile."""
    document: Any = deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_places(document))))
        if not place:
            continue
        holder = document
        for step in place[:-1]:
            holder = holder[step]
        last = place[-1]
        match draw(st.sampled_from(["retype", "retype", "replace", "remove", "add", "wrap", "copy"])):
            case "retype":
                holder[last] = deepcopy(draw(st.sampled_from(_OF_EACH_TYPE)))
            case "replace":
                holder[last] = deepcopy(draw(_HOSTILE))
            case "remove":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[draw(_NAMES)] = deepcopy(draw(_HOSTILE))
            case "wrap":
                holder[last] = draw(st.sampled_from([lambda x: [x], lambda x: {"a": x}]))(holder[last])
            case "copy" if isinstance(holder, list):
                holder.extend([deepcopy(holder[last])] * draw(st.integers(1, 40)))
    return document


@st.composite
def texts(draw: st.DrawFn, sound: Document) -> bytes:
    """A mutated document as bytes, at times with a key twice, a stretch replaced, or something around it."""
    text = written(draw(documents(sound)), ascii_only=draw(st.booleans()))
    match draw(st.sampled_from([*[""] * 6, "twice", "spliced", "cut", "around"])):
        case "twice":
            key = json.dumps(draw(st.sampled_from([*sound])))
            text = (
                b"{" + f"{key}: {json.dumps(draw(st.text(max_size=5)))},".encode(errors="replace") + text[1:]
            )
        case "spliced":
            text = draw(spliced(text))
        case "cut":
            text = text[: draw(st.integers(0, len(text)))]
        case "around":
            text = draw(st.sampled_from([b"\xef\xbb\xbf", b"\0", b"  \n", b"[]"])) + text
    return text


def spliced(text: bytes) -> st.SearchStrategy[bytes]:
    """`text` with one stretch of it replaced by any bytes."""
    places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.binary(max_size=8))
    return places.map(lambda cut: text[: min(cut[:2])] + cut[2] + text[max(cut[:2]) :])


@st.composite
def environments(draw: st.DrawFn, verb: str) -> dict[str, str | bytes]:
    """The variables of a call, in every fourth one or two of them changed or left out."""
    env: dict[str, str | bytes] = {**ENV, **(NEW if verb in {"ADD", "DEL"} else {}), "CNI_COMMAND": verb}
    most = draw(st.sampled_from([0, 0, 0, 2]))
    for name in draw(st.lists(st.sampled_from([*env]), min_size=most and 1, max_size=most)):
        if draw(st.integers(0, 3)) == 0:
            env.pop(name, None)
        else:
            env[name] = draw(_variables(str(env.get(name, ""))))
    return env


def _variables(sound: str) -> st.SearchStrategy[str | bytes]:
    odd = ["", " ", ".", "..", "/", "a/b", "x" * 16, "x" * 5000, "é", "not found", ";;=", "A", "=", "check"]
    return st.sampled_from(odd) | spliced(sound.encode()).map(lambda value: value.replace(b"\0", b""))


@st.composite
def calls(draw: st.DrawFn) -> tuple[dict[str, str | bytes], bytes]:
    """Variables and standard input of a mutated call."""
    verb, conf = draw(st.sampled_from(_WEIGHED))
    return draw(environments(verb)), draw(texts(conf))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """What a caller sends in place of a frame: one whose length lies, that is cut, padded or no frame."""
    verb, conf = draw(st.sampled_from([item for item in SOUND if item[0] != "VERSION"]))
    frame = wire.encode_call({**ENV, "CNI_COMMAND": verb}, json.dumps(conf).encode())
    header, body = frame[: wire.HEADER_BYTES], frame[wire.HEADER_BYTES :]
    harmed = {
        "sound": st.just(frame),
        "length": _lengths(len(body)).map(lambda length: _header(length) + body),
        "cut": st.integers(0, len(frame)).map(lambda end: frame[:end]),
        "spliced": spliced(body).map(lambda changed: _header(len(changed)) + changed),
        "again": st.sampled_from([frame, header, b"\0", body]).map(lambda more: frame + more),
        "garbage": st.binary(max_size=64),
        "longest": st.sampled_from([b"\0", b"=", b"A", b"A=\0", b"[", b"\xff", body]).map(_longest),
    }
    return draw(harmed[draw(st.sampled_from([*harmed]))])


def _header(length: int) -> bytes:
    return length.to_bytes(wire.HEADER_BYTES, "big")


def _longest(filler: bytes) -> bytes:
    """A frame as long as one may be, of nothing but `filler`."""
    return _header(wire.MAX_BODY) + (filler * (wire.MAX_BODY // len(filler) + 1))[: wire.MAX_BODY]


def _lengths(true: int) -> st.SearchStrategy[int]:
    near = st.integers(max(0, true - 40), true + 40)
    return near | st.sampled_from([0, 1, wire.MAX_BODY, wire.MAX_BODY + 1, 2**31, 2**32 - 1])
