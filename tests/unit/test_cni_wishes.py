"""What a pod wishes for, as it is read from what the runtime passes."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import CniError
from cni.netconf import NetConf
from cni.wishes import ANNOTATIONS, MOST_ADDRESSES, Wishes, read_leniently, read_wishes
from schemas.address import AddressAllocate

MACS = {name: f"02:00:00:00:00:0{number}" for number, name in enumerate("abcde", 1)}
KNOWN = "moorage.io/network, moorage.io/pool, moorage.io/ip, moorage.io/mac"


def conf(
    annotations: Any = None,
    *,
    ips: Any = None,
    mac: Any = None,
    cni: Any = None,
    **keys: Any,
) -> NetConf:
    """The configuration of network prod, with what a runtime may put into it."""
    runtime = {"ips": ips, "mac": mac, ANNOTATIONS: annotations}
    document = {"cniVersion": "1.1.0", "name": "pods", "type": "moorage", "network": "prod"}
    return NetConf.model_validate(document | {"runtimeConfig": runtime, "args": {"cni": cni}} | keys)


def annotated(ifname: str = "eth0", /, **annotations: Any) -> Wishes:
    """The wishes of annotations moorage.io/*, where `ip__net1` stands for ip.net1."""
    named = {f"moorage.io/{key.replace('__', '.')}": value for key, value in annotations.items()}
    return read_wishes(conf(named, pool="web"), {}, ifname)


def texts(wishes: Wishes) -> list[str]:
    return [str(address) for address in wishes.addresses]


def refusal(configuration: NetConf, args: dict[str, str] | None = None, ifname: str = "eth0") -> CniError:
    with pytest.raises(CniError) as caught:
        read_wishes(configuration, args or {}, ifname)
    return caught.value


def test_without_wishes_the_configuration_says_network_and_pool() -> None:
    assert read_wishes(conf(), {}, "eth0") == Wishes("prod")
    assert read_wishes(conf(pool="web"), {}, "eth0") == Wishes("prod", "web")


# Each source, highest first, with all that it may say.
SOURCES: list[tuple[str, dict[str, Any]]] = [
    ("runtimeConfig", {"addresses": "10.0.0.1", "mac": MACS["a"]}),
    (
        "annotation of eth0",
        {"network": "n2", "pool": "p2", "addresses": "10.0.0.2", "mac": MACS["b"]},
    ),
    ("annotation", {"network": "n3", "pool": "p3", "addresses": "10.0.0.3", "mac": MACS["c"]}),
    ("args.cni", {"addresses": "10.0.0.4", "mac": MACS["d"]}),
    ("CNI_ARGS", {"addresses": "10.0.0.5", "mac": MACS["e"]}),
    ("configuration", {"network": "prod", "pool": "web"}),
]


def passed(sources: dict[str, dict[str, Any]]) -> tuple[NetConf, dict[str, str]]:
    """These sources as a runtime passes them: the configuration and CNI_ARGS."""
    annotations: dict[str, str] = {}
    for source, suffix in (("annotation of eth0", ".eth0"), ("annotation", "")):
        said = sources.get(source, {})
        annotations |= {f"moorage.io/{key}{suffix}": said[key] for key in ("network", "pool") if key in said}
        if said:
            annotations[f"moorage.io/ip{suffix}"] = said["addresses"]
            annotations[f"moorage.io/mac{suffix}"] = said["mac"]
    runtime, cni, args = (sources.get(name, {}) for name in ("runtimeConfig", "args.cni", "CNI_ARGS"))
    configuration = conf(
        annotations,
        ips=[runtime["addresses"]] if runtime else None,
        mac=runtime.get("mac"),
        cni={"ips": [cni["addresses"]], "mac": cni["mac"]} if cni else None,
        pool="web",
    )
    return configuration, {"IP": args["addresses"], "MAC": args["mac"]} if args else {}


@pytest.mark.parametrize("highest", range(len(SOURCES)), ids=[name for name, _ in SOURCES])
def test_each_field_comes_from_the_first_source_that_has_it(highest: int) -> None:
    below = SOURCES[highest:]
    wishes = read_wishes(*passed(dict(below)), "eth0")
    expected = {
        field: next((said[field] for _, said in below if field in said), None)
        for field in ("network", "pool", "addresses", "mac")
    }
    assert (wishes.network, wishes.pool) == (expected["network"], expected["pool"])
    assert texts(wishes) == ([expected["addresses"]] if expected["addresses"] else [])
    assert wishes.mac == expected["mac"]


def test_one_source_may_say_the_addresses_and_a_lower_one_the_mac() -> None:
    configuration = conf({"moorage.io/ip": "10.0.0.2"}, mac=MACS["a"], cni={"ips": ["10.0.0.4"]})
    wishes = read_wishes(configuration, {"IP": "10.0.0.5"}, "eth0")
    assert (texts(wishes), wishes.mac) == (["10.0.0.2"], MACS["a"])
    assert read_wishes(conf({"moorage.io/ip": "10.0.0.2"}), {"MAC": MACS["e"]}, "eth0").mac == MACS["e"]


@pytest.mark.parametrize("nothing", [None, "", []])
def test_what_a_runtime_passes_for_nothing_is_no_wish(nothing: Any) -> None:
    configuration = conf(ips=nothing, mac=nothing, cni={"ips": nothing, "mac": nothing})
    assert read_wishes(configuration, {"IP": "", "MAC": ""}, "eth0") == Wishes("prod")


def test_a_value_that_does_not_count_is_not_looked_at() -> None:
    configuration = conf({"moorage.io/ip": "x", "moorage.io/mac.eth0": MACS["b"], "moorage.io/mac": "x"})
    configuration = configuration.model_copy(
        update={"runtimeConfig": configuration.runtimeConfig | {"ips": ["10.0.0.1"]}}
    )
    wishes = read_wishes(configuration, {"IP": "x", "MAC": "x"}, "eth0")
    assert (texts(wishes), wishes.mac) == (["10.0.0.1"], MACS["b"])


@pytest.mark.parametrize(
    ("annotations", "network", "pool"),
    [
        ({}, "prod", "web"),
        ({"network": "prod"}, "prod", "web"),
        ({"network": "test"}, "test", None),
        ({"network": "test", "pool": "db"}, "test", "db"),
        ({"pool": "db"}, "prod", "db"),
    ],
)
def test_the_configurations_pool_is_one_of_its_own_network(
    annotations: dict[str, str], network: str, pool: str | None
) -> None:
    wishes = annotated(**annotations)
    assert (wishes.network, wishes.pool) == (network, pool)


@pytest.mark.parametrize(
    ("ifname", "annotations", "expected"),
    [
        ("eth0", {"ip": "10.0.0.1"}, ["10.0.0.1"]),
        ("eth0", {"ip__eth0": "10.0.0.1"}, ["10.0.0.1"]),
        ("eth0", {"ip": "10.0.0.1", "ip__eth0": "10.0.0.2"}, ["10.0.0.2"]),
        ("eth0", {"ip__net1": "10.0.0.1"}, []),
        ("net1", {"ip": "10.0.0.1"}, []),
        ("net1", {"ip__net1": "10.0.0.1", "ip": "10.0.0.2", "ip__eth0": "10.0.0.3"}, ["10.0.0.1"]),
        ("eth0.100", {"ip__eth0.100": "10.0.0.1", "ip__eth0": "10.0.0.2"}, ["10.0.0.1"]),
        ("eth0", {"ip__eth0.100": "10.0.0.1"}, []),
        # What is meant for another interface is not looked at.
        ("eth0", {"ip__net1": "x", "ipp__net1": "x"}, []),
        ("net1", {"ip": "x", "ipp": "x", "ipp__eth0": "x"}, []),
    ],
)
def test_an_annotation_is_about_the_interface_it_names_or_else_eth0(
    ifname: str, annotations: dict[str, str], expected: list[str]
) -> None:
    assert texts(annotated(ifname, **annotations)) == expected


@pytest.mark.parametrize(
    ("ifname", "name"),
    [
        ("eth0", "ips"),
        ("eth0", "IP"),
        ("eth0", ""),
        ("eth0", "ips.eth0"),
        ("net1", "ips.net1"),
        ("net1", ".net1"),
        # These end in the name of no interface: they can be meant for none.
        ("eth0", "ip."),
        ("eth0", "ip.an-interface-too-long"),
        ("net1", "ip.net 1"),
        ("net1", "ip." + "x" * 5000),
    ],
)
def test_an_annotation_of_ours_that_nobody_knows_is_refused_with_those_that_are(
    ifname: str, name: str
) -> None:
    error = refusal(conf({f"moorage.io/{name}": "10.0.0.1"}), ifname=ifname)
    assert error.code == 7
    assert error.msg.startswith("annotation 'moorage.io/")
    assert KNOWN in error.msg
    assert len(error.msg) < 300


def test_annotations_of_others_are_not_looked_at() -> None:
    annotations = {"kubernetes.io/config.source": "api", "moorage.iox/ip": "x", "x": 7, "": None}
    assert read_wishes(conf(annotations), {}, "eth0") == Wishes("prod")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("10.0.0.2,10.0.0.1", ["10.0.0.2", "10.0.0.1"]),
        (" 10.0.0.1 , fd00::5 ", ["10.0.0.1", "fd00::5"]),
        ("10.0.0.1,fd00::5,10.0.0.1,FD00:0::5", ["10.0.0.1", "fd00::5"]),
    ],
)
def test_addresses_stand_between_commas_and_each_is_taken_once(text: str, expected: list[str]) -> None:
    assert texts(annotated(ip=text)) == expected
    assert texts(read_wishes(conf(), {"IP": text}, "eth0")) == expected


@pytest.mark.parametrize("ip", ["10.0.0.1/24", "10.0.0.1/0", "10.0.0.1/32", "10.0.0.1"])
def test_a_prefix_length_is_dropped_where_runtimes_pass_one(ip: str) -> None:
    for configuration, args in ((conf(ips=[ip]), {}), (conf(cni={"ips": [ip]}), {}), (conf(), {"IP": ip})):
        assert texts(read_wishes(configuration, args, "eth0")) == ["10.0.0.1"]
    assert texts(read_wishes(conf(ips=[ip, "fd00::5/128"]), {}, "eth0")) == ["10.0.0.1", "fd00::5"]


def test_a_mac_is_taken_in_upper_case_and_told_in_lower_case() -> None:
    assert annotated(mac="0A:58:AB:00:00:01").mac == "0a:58:ab:00:00:01"


def test_as_many_addresses_are_taken_as_an_allocate_carries() -> None:
    ips = [f"10.0.0.{number}" for number in range(MOST_ADDRESSES)]
    wishes = read_wishes(conf(ips=ips), {}, "eth0")
    assert texts(wishes) == ips
    (limit,) = (item.max_length for item in AddressAllocate.model_fields["addresses"].metadata)
    assert limit == MOST_ADDRESSES
    error = refusal(conf(ips=[*ips, "10.0.1.0"]))
    assert (error.code, error.msg) == (7, "runtimeConfig ips: 65 addresses are too many: name at most 64")


LONG = "9" * 5000
BAD_ADDRESSES = ["", "10.0.0", "10.0.0.1,", "10.0.0.300", "web-0", "fe80::1%eth0", "::ffff:10.0.0.1", LONG]
BAD_PREFIXES = ["10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/²", f"10.0.0.1/{LONG}", "fd00::5/129"]
BAD_MACS = ["x", "02-00-00-00-00-05", "020000000005", "00:00:00:00:00:00", "01:00:5e:00:00:01", LONG]
BAD_MACS += ["ff:ff:ff:ff:ff:ff"]
BAD_NAMES = ["", "Prod", "../x", "prod ", "prod\n", LONG]
NOT_TEXT = [7, True, {}, ["10.0.0.1"], {"a": [1] * 9}]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [("ip", value) for value in [*BAD_ADDRESSES, *BAD_PREFIXES, "10.0.0.1/24", None, *NOT_TEXT]]
    + [("mac", value) for value in ["", *BAD_MACS, None, *NOT_TEXT]]
    + [(name, value) for name in ("network", "pool") for value in [*BAD_NAMES, None, *NOT_TEXT]],
)
def test_an_annotation_that_cannot_be_read_is_code_7_and_named(annotation: str, value: Any) -> None:
    for name in (f"moorage.io/{annotation}", f"moorage.io/{annotation}.eth0"):
        error = refusal(conf({name: value}))
        assert (error.code, error.msg.split(": ")[0]) == (7, f"annotation {name}")
        assert len(error.msg) < 300


@pytest.mark.parametrize("where", ["runtimeConfig", "args.cni"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("ips", [value]) for value in [*BAD_ADDRESSES, *BAD_PREFIXES, None, *NOT_TEXT]]
    + [("ips", value) for value in ["10.0.0.1", 7, {"a": 1}, True]]
    + [("mac", value) for value in [*BAD_MACS, *NOT_TEXT]],
)
def test_a_capability_that_cannot_be_read_is_code_7_and_named(where: str, key: str, value: Any) -> None:
    wish = {key: value}
    error = refusal(conf(**wish) if where == "runtimeConfig" else conf(cni=wish))
    assert (error.code, error.msg.split(": ")[0]) == (7, f"{where} {key}")
    assert len(error.msg) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [("IP", value) for value in [*filter(None, BAD_ADDRESSES), *BAD_PREFIXES]]
    + [("MAC", value) for value in BAD_MACS],
)
def test_an_argument_that_cannot_be_read_is_code_4_and_named(key: str, value: str) -> None:
    error = refusal(conf(), {key: value})
    assert (error.code, error.msg.split(": ")[0]) == (4, f"CNI_ARGS {key}")
    assert len(error.msg) < 300


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("ip", "10.0.0", "'10.0.0' is not an IPv4 or IPv6 address. Write addresses such as 10.20.0.12"),
        ("ip", "10.0.0.1/24", "write the address without it"),
        ("ip", "::ffff:10.0.0.1", "write the IPv4 address 10.0.0.1 instead"),
        ("mac", "01:00:5e:00:00:01", "write one such as 02:00:00:00:00:05"),
        ("network", "Prod", "'Prod' is not the name of a network: it must be 1 to 63 lower-case letters"),
        ("pool", "a b", "'a b' is not the name of a pool: it must be 1 to 63 lower-case letters"),
        ("ip", 7, "must be text"),
    ],
)
def test_a_refusal_says_what_to_write_instead(annotation: str, value: Any, words: str) -> None:
    assert words in refusal(conf({f"moorage.io/{annotation}": value})).msg


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"runtimeConfig": []}, "runtimeConfig must be a JSON object"),
        ({"runtimeConfig": {ANNOTATIONS: ["x"]}}, f"runtimeConfig {ANNOTATIONS} must be a JSON object"),
        ({"args": "x"}, "args must be a JSON object"),
        ({"args": {"cni": 7}}, "args.cni must be a JSON object"),
    ],
)
def test_a_place_of_wishes_that_is_no_object_is_code_7(keys: dict[str, Any], named: str) -> None:
    error = refusal(conf(**keys))
    assert error.code == 7
    assert error.msg.startswith(named)


# What a DEL makes of wishes that an ADD is refused for.
@pytest.mark.parametrize(
    ("configuration", "args", "expected"),
    [
        (conf({"moorage.io/ip": "10.0.0.2"}), {}, Wishes("prod", None, (ip_address("10.0.0.2"),))),
        (conf({"moorage.io/ip": "x"}, pool="web"), {}, Wishes("prod")),
        (conf({"moorage.io/network": "X"}, ips=["10.0.0.1"]), {}, Wishes("prod")),
        (conf({"moorage.io/network": "test", "moorage.io/ip": "x"}), {}, Wishes("test")),
        (conf({"moorage.io/network": "test", "moorage.io/ipp": "x"}), {}, Wishes("test")),
        (conf({"moorage.io/network.net1": "test", "moorage.io/ip": "x"}), {}, Wishes("prod")),
        (conf(mac="x"), {}, Wishes("prod")),
        (conf(runtimeConfig=[]), {}, Wishes("prod")),
        (conf(runtimeConfig={ANNOTATIONS: 7}), {}, Wishes("prod")),
        (conf({"moorage.io/network": "test"}, args=[]), {}, Wishes("test")),
        (conf(), {"IP": "x"}, Wishes("prod")),
    ],
)
def test_a_lenient_reader_keeps_the_network_and_drops_what_it_cannot_read(
    configuration: NetConf, args: dict[str, str], expected: Wishes
) -> None:
    assert read_leniently(configuration, args, "eth0") == expected


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=80)
    | st.sampled_from(["10.0.0.1", "fd00::5/64", MACS["a"], "not found", "prod", "\udcff"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["ips", "mac", "cni", ANNOTATIONS]
                + [
                    f"moorage.io/{key}{end}"
                    for key in ("ip", "mac", "pool", "x")
                    for end in ("", ".eth0", ".")
                ]
            )
            | st.text(max_size=20),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
OBJECTS = ANY | st.fixed_dictionaries(
    {}, optional={"ips": ANY, "mac": ANY, "cni": st.fixed_dictionaries({"ips": ANY, "mac": ANY})}
)
NAMED = st.dictionaries(
    st.sampled_from(["network", "pool", "ip", "mac", "ip.eth0"]).map("moorage.io/{}".format), ANY
)


@given(
    OBJECTS | st.fixed_dictionaries({ANNOTATIONS: NAMED}),
    OBJECTS,
    st.dictionaries(st.sampled_from(["IP", "MAC", "X"]), st.text()),
)
def test_anything_passed_comes_to_wishes_or_a_bounded_cni_error(
    runtime: Any, args: Any, cni_args: dict[str, str]
) -> None:
    configuration = conf(runtimeConfig=runtime, args=args)
    try:
        wishes = read_wishes(configuration, cni_args, "eth0")
    except CniError as error:
        assert error.code in {4, 7}
        assert 0 < len(error.msg) < 400
        assert "not found" not in error.msg.lower()
        assert read_leniently(configuration, cni_args, "eth0").addresses == ()
    else:
        assert len(wishes.addresses) <= MOST_ADDRESSES
        assert read_leniently(configuration, cni_args, "eth0") == wishes
