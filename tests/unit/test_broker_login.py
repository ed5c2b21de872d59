"""Where a login leads: a URL or the file that holds one, with one server or several."""

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from broker.connection import Link, masked, parse_urls
from broker.login import Login, each_server, joined, login
from schemas.errors import Code, ServiceError

URL = "amqp://node.n1:s%40c%2Cr%2Ft@a:5672,b:5673/%2F"

passwords = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ports = st.integers(1, 65535)
names = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{1,3})?", fullmatch=True)
hosts = names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
places = st.tuples(hosts, ports).map(lambda place: f"{place[0]}:{place[1]}") | hosts


def refusal(login_: Login) -> str:
    """Why it has no URL, in full: as it would be logged, with all that led to it."""
    with pytest.raises(ServiceError) as caught:
        login_.url()
    assert caught.value.code == Code.NOT_PROVISIONED
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", [URL, f"{URL}\n", f"  {URL}\r\n\n"])
def test_the_url_in_a_file_is_that_file_without_what_surrounds_it(tmp_path: Path, text: str):
    file = tmp_path / "amqp-url"
    file.write_text(text)
    assert Login(file).url() == URL


def test_a_file_is_read_again_each_time(tmp_path: Path):
    file = tmp_path / "amqp-url"
    file.write_text(URL)
    access = Login(file)
    assert access.servers() == each_server(URL)
    file.write_text("amqp://node.n1:new@c/")
    assert access.servers() == ["amqp://node.n1:new@c/"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must hold one URL"),
        (b" \n\t\n", "must hold one URL"),
        (b"amqp://u:hunter2@a/\namqp://u:hunter2@b/\n", "must hold one URL"),
        (b"amqp://u:hunter2@a/ # the new one\n", "must hold one URL"),
        (b"amqp://u:hunter2\xff\xfe@a/", "it is not text"),
        ("amqp://u:hunter2@a/".encode("utf-16"), "it is not text"),
    ],
    ids=["empty", "blank", "two lines", "comment", "binary", "utf-16"],
)
def test_what_is_no_url_is_told_with_its_file_and_without_what_it_holds(
    tmp_path: Path, content: bytes, told: str
):
    file = tmp_path / "amqp-url"
    file.write_bytes(content)
    said = refusal(Login(file))
    assert told in said and str(file) in said and "--url-file" in said
    assert "hunter2" not in said


def test_a_file_that_is_missing_or_a_folder_is_told_with_the_reason(tmp_path: Path):
    assert "cannot be read (No such file" in refusal(Login(tmp_path / "amqp-url"))
    assert "cannot be read (Is a directory" in refusal(Login(tmp_path))


@pytest.mark.parametrize("text", ["MOORAGE_AMQP_URL=amqp://u:hunter2@a/", "amqp://u:hun", "hunter2", "\0\0"])
def test_a_file_whose_url_cannot_be_used_is_named_and_what_it_holds_is_not(tmp_path: Path, text: str):
    """Half a file, and a file of settings instead of one with the URL alone, are what happens."""
    file = tmp_path / "amqp-url"
    file.write_text(text)
    with pytest.raises(ServiceError) as caught:
        parse_urls(Login(file))
    said = "".join(traceback.format_exception(caught.value))
    assert str(file) in caught.value.message
    assert "hun" not in said


def test_a_login_shows_no_password(tmp_path: Path):
    assert "s%40c" not in repr(Login(URL))
    assert "s%40c" not in repr(login(URL))


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("amqp://u:p@a/%2F", ["amqp://u:p@a/%2F"]),
        ("amqp://u:p@a,b:1/v?x=1", ["amqp://u:p@a/v?x=1", "amqp://u:p@b:1/v?x=1"]),
        (
            "mysql+pymysql://u:p@[::1]:3306,[fe80::2]:3307/moorage",
            ["mysql+pymysql://u:p@[::1]:3306/moorage", "mysql+pymysql://u:p@[fe80::2]:3307/moorage"],
        ),
        ("http://a:1,b:2", ["http://a:1", "http://b:2"]),
        ("amqp://u:p%40%2C@a,b/", ["amqp://u:p%40%2C@a/", "amqp://u:p%40%2C@b/"]),
        ("amqp://u:p,q@a,b/", ["amqp://u:p,q@a/", "amqp://u:p,q@b/"]),
        ("amqp://u:p@q@a,b/", ["amqp://u:p@q@a/", "amqp://u:p@q@b/"]),
        ("amqp://u:p@a/v,w", ["amqp://u:p@a/v,w"]),
        ("no url", ["no url"]),
    ],
)
def test_each_server_of_a_url_has_one_of_its_own(url: str, servers: list[str]):
    assert each_server(url) == servers
    assert joined(servers) == url


@given(st.lists(places, min_size=1, max_size=5), passwords, st.sampled_from(["amqp", "amqps", "https"]))
def test_what_is_joined_again_is_what_it_was(where: list[str], password: str, scheme: str):
    url = f"{scheme}://node.n1:{quote(password, safe='')}@{','.join(where)}/%2F"
    assert joined(each_server(url)) == url
    assert len(each_server(url)) == len(where)


@given(st.lists(places, min_size=1, max_size=5), passwords)
def test_any_password_arrives_as_it_is_and_is_never_shown(where: list[str], password: str):
    url = f"//node.n1:{quote(password, safe='')}@{','.join(where)}/moorage"
    assert [parsed.password for parsed in parse_urls(f"amqp:{url}")] == [password] * len(where)
    assert [make_url(one).password for one in each_server(f"mysql+pymysql:{url}")] == [password] * len(where)
    assert f"node.n1:***@{where[0]}" in masked(f"amqp:{url}")
    assert masked(f"amqp:{url}").count("***") == 1


@pytest.mark.parametrize("url", ["amqp://u:p@a,/", "amqp://u:p@,a/", "amqp://u:p@a,,b/", "amqp://u:p@a:x,b/"])
def test_one_server_that_cannot_be_used_spoils_the_url(url: str):
    with pytest.raises(ServiceError, match="commas between"):
        Link(url, name="test")
