"""One HTTP exchange with a registry: authentication, redirects, and errors that say what happened.

Redirects are followed here and not by aiohttp, because credentials must not follow to another host and a
registry reached by TLS must not send us on to plain HTTP.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import IO, Final, Self

import aiohttp
from yarl import URL

import edgefleet
from edgefleet.bundle import auth
from edgefleet.bundle.errors import (
    BundleError,
    NotARegistry,
    NotFound,
    RegistryFailed,
    RegistryRefused,
    RegistryUnreachable,
)
from edgefleet.bundle.format import strict_json
from edgefleet.bundle.options import RegistryOptions
from edgefleet.bundle.reference import Reference
from edgefleet.bundle.throttle import Throttle

Body = Callable[[], IO[bytes] | None]
"""Opens the body afresh, because a request may have to be sent twice."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_TOKEN_CAP: Final = 64 * 1024
_WEB_PAGE: Final = "text/html"


class Transport:
    """An open session with registries."""

    def __init__(self, options: RegistryOptions, throttle: Throttle | None = None) -> None:
        """Remember the options; files come no faster than `throttle` lets them."""
        self.options = options
        self.throttle = throttle or Throttle()
        self.received = 0
        """Bytes of answers' bodies that were read."""
        self._session: aiohttp.ClientSession | None = None
        self._authorization: dict[tuple[str, str, str], str] = {}

    async def __aenter__(self) -> Self:
        """Open the session. Raises RegistryUnreachable when the CA file cannot be read."""
        try:
            tls = ssl.create_default_context()
            if self.options.ca_file is not None:
                tls.load_verify_locations(cafile=self.options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise RegistryUnreachable(
                f"the CA file {self.options.ca_file} cannot be read: {error}"
            ) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit_per_host=4),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.options.connect_timeout, sock_read=self.options.read_timeout
            ),
            headers={"User-Agent": f"edgefleet/{edgefleet.__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    def url(self, reference: Reference, path: str) -> URL:
        """Address of something in a repository."""
        scheme = "http" if reference.host in self.options.plain_http else "https"
        return URL(f"{scheme}://{reference.host}/v2/{reference.repository}/{path}", encoded=True)

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: URL,
        reference: Reference,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = lambda: None,
        accept: frozenset[int] = frozenset({200}),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the answer when its status is one of `accept`. Raises BundleError."""
        actions = "pull" if method in {"GET", "HEAD"} else "pull,push"
        who = (reference.host, reference.repository, actions)
        async with contextlib.AsyncExitStack() as stack:
            with naming(reference.host):
                answer = await self._follow(stack, method, url, who, headers or {}, body)
                if answer.status == 401 and await self._authorize(answer, who):
                    answer = await self._follow(stack, method, url, who, headers or {}, body)
            if answer.status not in accept:
                raise _failure(answer, reference)
            yield answer

    async def read(self, answer: aiohttp.ClientResponse, cap: int) -> bytes:
        """Read a body, one byte more than `cap` at most."""
        data = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            self.received += len(chunk)
            data += chunk
            if len(data) > cap:
                break
        return bytes(data[: cap + 1])

    async def _follow(
        self,
        stack: contextlib.AsyncExitStack,
        method: str,
        url: URL,
        who: tuple[str, str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "use the registry as a context manager"
        home = url.origin()
        for _ in range(_MOST_REDIRECTS):
            mine = dict(headers)
            if who in self._authorization and url.origin() == home:
                mine["Authorization"] = self._authorization[who]
            content = body()
            if content is not None:
                stack.callback(content.close)
            answer = await stack.enter_async_context(
                self._session.request(method, url, headers=mine, data=content, allow_redirects=False)
            )
            if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            url = url.join(URL(answer.headers["Location"]))
            if url.scheme != "https" and f"{url.host}:{url.port}" not in self.options.plain_http:
                raise NotARegistry(f"{who[0]} sends us on to {url.origin()} without TLS: a captive portal?")
        raise RegistryFailed(f"{who[0]} redirects without end")

    async def _authorize(self, answer: aiohttp.ClientResponse, who: tuple[str, str, str]) -> bool:
        """Find out what to say to a 401; False when there is nothing to say."""
        host, repository, actions = who
        challenge = auth.parse_challenge(answer.headers.get("WWW-Authenticate", ""))
        known = self.options.credentials.get(host)
        if challenge.scheme == "basic" and known:
            header = auth.basic(*known)
        elif challenge.scheme == "bearer" and challenge.realm:
            scope = challenge.scope or f"repository:{repository}:{actions}"
            header = "Bearer " + await self._token(challenge, scope, host, known)
        else:
            return False
        self._authorization[who] = header
        return True

    async def _token(
        self, challenge: auth.Challenge, scope: str, host: str, known: tuple[str, str] | None
    ) -> str:
        assert self._session is not None
        realm = URL(challenge.realm)
        if realm.scheme != "https" and f"{realm.host}:{realm.port}" not in self.options.plain_http:
            raise RegistryRefused(f"{host} sends us to {realm.origin()} for a token, without TLS")
        query = {"scope": scope} | ({"service": challenge.service} if challenge.service else {})
        headers = {"Authorization": auth.basic(*known)} if known else {}
        async with self._session.get(
            realm.update_query(query), headers=headers, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                raise RegistryRefused(
                    f"{realm.origin()} answered {answer.status} when asked for a token for {host}"
                )
            found = strict_json(await self.read(answer, _TOKEN_CAP), f"the token of {realm.origin()}")
        token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
        if not isinstance(token, str):
            raise RegistryRefused(f"{realm.origin()} gave no token for {host}")
        return token


@contextlib.contextmanager
def naming(host: str) -> Iterator[None]:
    """Turn what the network throws into errors of ours."""
    try:
        yield
    except aiohttp.ClientSSLError as error:
        hint = "; if it speaks plain HTTP, list it as such" if "WRONG_VERSION_NUMBER" in str(error) else ""
        raise RegistryUnreachable(f"{host}: TLS failed: {error}{hint}") from error
    except aiohttp.ClientConnectorError as error:
        raise RegistryUnreachable(f"{host}: {error.os_error}") from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise RegistryUnreachable(f"{host}: {str(error) or type(error).__name__}") from error


def is_web_page(answer: aiohttp.ClientResponse) -> bool:
    """Whether a 200 is a page for people."""
    return answer.headers.get("Content-Type", "").lower().startswith(_WEB_PAGE)


def web_page(host: str) -> NotARegistry:
    """Error for a page for people in place of what was asked for."""
    return NotARegistry(f"{host} answered with a web page: a captive portal, a proxy, or not a registry")


def _failure(answer: aiohttp.ClientResponse, reference: Reference) -> BundleError:
    status, host = answer.status, reference.host
    if status in {401, 403}:
        return RegistryRefused(f"{host} answered {status} for {reference.repository}: check the credentials")
    if status == 404:
        return NotFound(f"{host} has no {answer.url.path.removeprefix('/v2/')}")
    if is_web_page(answer) and status < 400:
        return web_page(host)
    failed = RegistryFailed(f"{host} answered {status} to {answer.method} {answer.url.path}")
    wait = answer.headers.get("Retry-After", "")
    failed.retry_after = float(wait) if wait.isdecimal() else None
    return failed
