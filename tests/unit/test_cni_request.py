"""What the node worker makes of a call's variables and configuration."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import CniError
from cni.netconf import asked_version
from cni.request import CniRequest, Command, parse
from cni.wishes import ANNOTATIONS, Wishes

ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c0ffee",
    "CNI_NETNS": "/run/netns/c0ffee",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=7",
}
MAC = "02:00:00:00:00:05"
CONF = {"cniVersion": "1.1.0", "name": "pods", "type": "moorage", "network": "prod"}


def call(conf: dict[str, Any] | None = None, /, **env: str | None) -> CniRequest:
    """Parse the good call with some variables replaced (None: absent), and some configuration keys (...)."""
    variables = {name: value for name, value in (ENV | env).items() if value is not None}
    document = {key: value for key, value in (CONF | (conf or {})).items() if value is not ...}
    return parse(variables, json.dumps(document).encode())


def refused(code: int, *words: str, conf: dict[str, Any] | None = None, **env: str | None) -> None:
    with pytest.raises(CniError) as caught:
        call(conf, **env)
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in caught.value.msg


def test_a_pods_add_is_read_whole() -> None:
    request = call({"pool": "web", "runtimeConfig": {"mac": MAC}, "capabilities": {"mac": True}, "other": 1})
    assert request.command is Command.ADD
    assert (request.container_id, request.netns, request.ifname) == ("c0ffee", "/run/netns/c0ffee", "eth0")
    assert request.owner == "shop/web-0"
    assert (request.conf.cniVersion, request.conf.name, request.conf.type) == ("1.1.0", "pods", "moorage")
    assert (request.conf.network, request.conf.pool) == ("prod", "web")
    assert (request.conf.runtimeConfig, request.conf.prevResult) == ({"mac": MAC}, None)
    assert (request.network, request.wishes.pool, request.wishes.mac) == ("prod", "web", MAC)
    assert request.args["K8S_POD_UID"] == "7"
    assert request.path == "/opt/cni/bin"


@pytest.mark.parametrize(
    ("args", "owner"),
    [
        ("K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop", "shop/web-0"),
        ("IP=10.0.0.9;K8S_POD_NAME=My_box.1", "container:My_box.1"),
        ("K8S_POD_NAMESPACE=;K8S_POD_NAME=box", "container:box"),
        ("K8S_POD_NAMESPACE=shop", "container:c0ffee"),
        ("", "container:c0ffee"),
        (None, "container:c0ffee"),
    ],
)
def test_the_owner_is_the_pod_else_the_named_container_else_its_id(args: str | None, owner: str) -> None:
    assert call(CNI_ARGS=args).owner == owner


@pytest.mark.parametrize("name", ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
@pytest.mark.parametrize("value", [None, ""])
def test_an_add_without_a_variable_is_code_4_and_names_it(name: str, value: str | None) -> None:
    with pytest.raises(CniError) as caught:
        call(**{name: value})
    assert caught.value.code == 4
    assert f"{name} " in caught.value.msg
    assert "missing" in caught.value.msg


def test_all_missing_variables_are_named_at_once() -> None:
    refused(4, "CNI_CONTAINERID, CNI_IFNAME missing", CNI_CONTAINERID=None, CNI_IFNAME=None)


def test_check_needs_what_add_needs() -> None:
    refused(4, "CNI_NETNS", CNI_COMMAND="CHECK", CNI_NETNS=None)
    assert call(CNI_COMMAND="CHECK").command is Command.CHECK


def test_a_del_needs_no_netns_and_no_pod() -> None:
    request = call(CNI_COMMAND="DEL", CNI_NETNS=None, CNI_ARGS=None, CNI_PATH=None)
    assert (request.command, request.netns, request.container_id) == (Command.DEL, None, "c0ffee")
    assert call(CNI_COMMAND="DEL", CNI_NETNS="").netns is None
    refused(4, "CNI_CONTAINERID", CNI_COMMAND="DEL", CNI_CONTAINERID=None)
    refused(4, "CNI_IFNAME", CNI_COMMAND="DEL", CNI_IFNAME="")


def test_a_del_is_not_refused_for_arguments_that_no_add_could_have_passed() -> None:
    request = call(CNI_COMMAND="DEL", CNI_ARGS="nonsense;K8S_POD_NAMESPACE=UP;K8S_POD_NAME=web-0")
    assert request.args == {"K8S_POD_NAMESPACE": "UP", "K8S_POD_NAME": "web-0"}


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_gc_and_status_name_no_container(verb: str) -> None:
    request = call(CNI_COMMAND=verb, CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None, CNI_ARGS=None)
    assert (request.command, request.container_id, request.ifname) == (Command(verb), "", "")


@pytest.mark.parametrize("verb", ["add", "VERSION", "ADD ", "SHRINK", "\udcff"])
def test_a_verb_that_the_worker_does_not_have_is_code_4(verb: str) -> None:
    refused(4, "CNI_COMMAND", CNI_COMMAND=verb)


@pytest.mark.parametrize("value", ["-x", ".x", "a/b", "a b", "a\n", "é", "x" * 256, "\udcff"])
def test_a_container_id_outside_the_specifications_pattern_is_code_4(value: str) -> None:
    refused(4, "CNI_CONTAINERID", CNI_CONTAINERID=value)


@pytest.mark.parametrize("value", [".", "..", "a/b", "a:b", "a b", "x" * 16, "\udcff", "eth0\n", "\x01"])
def test_an_interface_name_that_linux_does_not_take_is_code_4(value: str) -> None:
    refused(4, "CNI_IFNAME", CNI_IFNAME=value)


@pytest.mark.parametrize("value", ["netns", "../x", "/run/\n", "/x\udcff", "/" + "x" * 4096])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_netns_that_is_no_absolute_path_is_code_4(value: str, verb: str) -> None:
    refused(4, "CNI_NETNS", CNI_NETNS=value, CNI_COMMAND=verb)


@pytest.mark.parametrize("args", ["x", "=x", "A=1;x", "A=\n", "A=\udcff"])
def test_malformed_arguments_are_code_4(args: str) -> None:
    refused(4, "CNI_ARGS", CNI_ARGS=args)


def test_arguments_nobody_knows_are_kept_with_or_without_ignore_unknown() -> None:
    assert call(CNI_ARGS="FOO=a=b;;BAR=;").args == {"FOO": "a=b", "BAR": ""}


@pytest.mark.parametrize(
    "args",
    [
        "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=*",
        "K8S_POD_NAMESPACE=Shop;K8S_POD_NAME=web-0",
        "K8S_POD_NAMESPACE=shop/x;K8S_POD_NAME=web-0",
        "K8S_POD_NAME=a/b",
        f"K8S_POD_NAMESPACE={'x' * 64};K8S_POD_NAME=web-0",
    ],
)
def test_a_pod_name_that_kubernetes_does_not_allow_is_code_4(args: str) -> None:
    refused(4, "CNI_ARGS", CNI_ARGS=args)


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b"1",
        b'"x"',
        b"null",
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b"{'a': 1}",
        b"\xef\xbb\xbf{}",
        pytest.param(b'{"x": ' + b"9" * 5000 + b"}", id="huge number"),
        pytest.param(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
    ],
)
def test_what_is_not_a_json_object_is_code_6(stdin: bytes) -> None:
    with pytest.raises(CniError) as caught:
        parse(ENV, stdin)
    assert caught.value.code == 6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": ...}, "name"),
        ({"name": ""}, "name"),
        ({"name": "not found"}, "name"),
        ({"type": ...}, "type"),
        ({"network": ...}, "network"),
        ({"network": "Prod"}, "network"),
        ({"network": 7}, "network"),
        ({"pool": "../x"}, "pool"),
        ({"cniVersion": 1}, "cniVersion"),
        ({"runtimeConfig": []}, "runtimeConfig"),
        ({"args": []}, "args"),
        ({"prevResult": "x"}, "prevResult"),
        ({"prevResult": {"interfaces": {}}}, "interfaces must be a list of objects"),
        ({"prevResult": {"ips": ["x"]}}, "ips must be a list of objects"),
    ],
)
def test_an_invalid_configuration_is_code_7_and_names_the_key(change: dict[str, Any], word: str) -> None:
    refused(7, word, conf=change)


def test_null_stands_for_absent() -> None:
    keys = ("runtimeConfig", "args", "prevResult", "pool", "capabilities")
    assert call(dict.fromkeys(keys)) == call()


@pytest.mark.parametrize("version", ["0.2.0", "2.0.0", "1.1", "x", "", ...])
def test_a_version_that_is_not_supported_is_code_1_and_says_which_are(version: Any) -> None:
    refused(1, "0.3.1, 0.4.0, 1.0.0, 1.1.0", conf={"cniVersion": version})


@pytest.mark.parametrize(
    ("verb", "version", "known"),
    [
        ("ADD", "0.3.1", True),
        ("DEL", "0.3.1", True),
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
    ],
)
def test_a_verb_is_refused_below_the_version_that_brought_it(verb: str, version: str, known: bool) -> None:
    if known:
        assert call({"cniVersion": version}, CNI_COMMAND=verb).command == verb
    else:
        refused(1, verb, conf={"cniVersion": version}, CNI_COMMAND=verb)


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion": "0.4.0"}', "0.4.0"),
        (b'{"cniVersion": "9.9.9"}', "9.9.9"),
        (b'{"cniVersion": "1.0"}', "1.1.0"),
        (b'{"cniVersion": "not found"}', "1.1.0"),
        (b'{"cniVersion": 1}', "1.1.0"),
        (b"{", "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_an_error_is_given_in_the_asked_version_if_it_looks_like_one(stdin: bytes, version: str) -> None:
    assert asked_version(stdin) == version


@pytest.mark.parametrize("verb", [verb for verb in Command if verb != Command.VERSION])
@pytest.mark.parametrize(
    ("code", "args", "conf"),
    [
        (7, "", {"runtimeConfig": {ANNOTATIONS: {"moorage.io/ipp": "x"}}}),
        (7, "", {"runtimeConfig": {ANNOTATIONS: {"moorage.io/ip.": "x"}}}),
        (7, "", {"runtimeConfig": {"mac": "x"}}),
        (7, "", {"runtimeConfig": []}),
        (7, "", {"args": []}),
        (4, "IP=x", {}),
    ],
)
def test_wishes_fail_an_add_and_a_check_and_no_other_call(
    verb: str, code: int, args: str, conf: dict[str, Any]
) -> None:
    if verb in ("ADD", "CHECK"):
        refused(code, conf=conf, CNI_COMMAND=verb, CNI_ARGS=args)
    else:
        assert call(conf, CNI_COMMAND=verb, CNI_ARGS=args).wishes == Wishes("prod")


def test_the_network_is_the_wished_one_where_a_call_is_about_an_interface() -> None:
    conf = {"runtimeConfig": {ANNOTATIONS: {"moorage.io/network": "test"}}}
    for verb in ("ADD", "DEL", "CHECK"):
        request = call(conf, CNI_COMMAND=verb)
        assert (request.network, request.conf.network) == ("test", "prod")
    assert call(conf, CNI_COMMAND="STATUS").network == "prod"


@given(
    st.dictionaries(
        st.sampled_from([*ENV, "CNI_NETNS_OVERRIDE"]),
        st.sampled_from([*ENV.values(), "GC", "STATUS", "CHECK", "VERSION"]) | st.text(),
    ),
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*CONF, "prevResult"]), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_any_input_is_a_request_or_a_cni_error(env: dict[str, str], stdin: bytes) -> None:
    try:
        request = parse(env, stdin)
    except CniError as error:
        assert error.code in {1, 4, 6, 7}
        assert error.msg
    else:
        assert request.conf.network
