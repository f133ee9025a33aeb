"""Settings for registries as they come from a chart or from docker's own file."""

import json

import pytest
from edgefleet.bundle import RegistryOptions


def test_hosts_without_tls_are_a_comma_list_with_spaces_allowed() -> None:
    assert RegistryOptions.create(plain_http=" a:5000 , b:1,,").plain_http == {"a:5000", "b:1"}
    assert RegistryOptions.create().plain_http == frozenset()


def test_credentials_come_from_a_docker_config_however_it_writes_them() -> None:
    text = json.dumps(
        {
            "auths": {
                "https://a.example/v1/": {"auth": "dXNlcjpwYXNzOndvcmQ="},
                "b.example:5000": {"username": "u", "password": "p"},
                "c.example": {},
            }
        }
    )
    assert RegistryOptions.create(docker_config=text).credentials == {
        "a.example": ("user", "pass:word"),
        "b.example:5000": ("u", "p"),
    }


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", '{"auths": []}', '{"auths": {"a": 1}}', '{"auths": {"a": {"auth": "%%"}}}']
)
def test_a_docker_config_that_is_none_is_a_value_error_and_not_a_traceback(text: str) -> None:
    with pytest.raises(ValueError):
        RegistryOptions.create(docker_config=text)


def test_passwords_do_not_show_in_a_log() -> None:
    options = RegistryOptions(credentials={"a": ("u", "hidden")})
    assert "hidden" not in repr(options)
