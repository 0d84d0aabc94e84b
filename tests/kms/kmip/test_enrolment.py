"""Keys without a certificate: their public halves, and new key pairs. No private key is ever asked for.

Against PyKMIP's server, and a fake for what that cannot be made to do: it has no links, and refuses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kmip.core.enums import LinkType, ResultReason

from kms.kmip import enrolment, operations
from kms.kmip.connection import Connection, Endpoint, Reach, connect
from kms.kmip.enrolment import PUBLIC_SUFFIX, EnrolmentError, create_key, public_key
from kms.kmip.errors import KmipError, Reason
from kms.kmip.messages import VERSIONS, Version
from kms.kmip.signer import scheme_for, verify
from tests.harness.kmip_fake import Answer, Asked, CloseNow, FakeKmip
from tests.harness.kmip_server import KmipServer
from tests.harness.pki import kept_key
from tests.kms.kmip.rig import SIGNING_KEY, at, reach, root, server_identity


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with KmipServer(tmp_path_factory.mktemp("kmip"), server_identity(), root()) as server:
        server.register("signing", SIGNING_KEY)
        yield server


@asynccontextmanager
async def fake(**attributes: Any) -> Any:
    async with FakeKmip(server_identity(), root(), SIGNING_KEY) as made:
        made.operations += ["GET", "CREATE_KEY_PAIR", "ACTIVATE"]
        for name, value in attributes.items():
            setattr(made, name, value)
        yield made


def run[A](work: Coroutine[Any, Any, A]) -> A:
    async def within() -> A:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(within())


async def failing(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(EnrolmentError) as caught:
        await work
    assert "\n" not in str(caught.value)
    return str(caught.value)


def asked(one: FakeKmip) -> list[str]:
    return [each.operation.name for each in one.asked]


def refusing(reason: ResultReason, text: str = "no") -> Any:
    return lambda asked: asked.refuse(reason, text)


def creating(one: FakeKmip) -> None:
    """Have the fake hold nothing, until a key pair is made."""

    def locate(asked: Asked) -> Answer:
        asked.fake.identifiers = ["1"] if "CREATE_KEY_PAIR" in [each.operation.name for each in one.asked] else []
        return asked.as_it_should()

    one.on["LOCATE"] = locate


class TestANewKeyPair:
    def test_is_active_signs_and_verifies_nothing_else_and_is_found_again(self, manager: KmipServer) -> None:
        async def work() -> None:
            key, protected = await create_key([at(manager.port)], reach(), "made", 2048, 10)
            assert isinstance(key, rsa.RSAPublicKey)
            assert (key.key_size, protected) == (2048, True)
            connection = await connect(at(manager.port), reach())
            (private,) = await connection.ask(operations.locate_private_keys("made"))
            (public,) = await connection.ask(operations.locate_public_keys("made" + PUBLIC_SUFFIX))
            found = await connection.ask(operations.get_attributes(private))
            assert (found.state, found.length, found.usage) == ("ACTIVE", 2048, {"SIGN"})
            assert (await connection.ask(operations.get_attributes(public))).usage == {"VERIFY"}
            scheme = scheme_for(key)
            verify(key, scheme, await connection.ask(operations.sign(private, scheme, b"data")), b"data", "made")
            connection.abort()
            assert await public_key(at(manager.port), reach(), "made", 10) == key

        run(work())

    @pytest.mark.parametrize("version", VERSIONS)
    def test_is_made_and_found_again_in_every_version(
        self, manager: KmipServer, version: Version, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def in_that(endpoint: Endpoint, how: Reach) -> Connection:
            agreed = await connect(endpoint, how)
            return Connection(agreed.at, version, None, agreed.last_id)

        async def work() -> None:
            name = "made in {}.{}".format(*version)
            key, protected = await create_key([at(manager.port)], reach(), name, 2048, 10)
            assert protected is (version >= (1, 4))
            assert await public_key(at(manager.port), reach(), name, 10) == key

        monkeypatch.setattr(enrolment, "connect", in_that)
        run(work())

    def test_is_not_made_where_the_name_is_taken(self, manager: KmipServer) -> None:
        async def work() -> None:
            manager.register("half" + PUBLIC_SUFFIX, SIGNING_KEY)
            for name, taken in (("signing", "signing"), ("half", "half" + PUBLIC_SUFFIX)):
                said = await failing(create_key([at(manager.port)], reach(), name, 2048, 10))
                assert f"has something of the name {taken!r} already, so nothing is made" in said
            connection = await connect(at(manager.port), reach())
            assert len(await connection.ask(operations.locate_anything("signing"))) == 1
            assert not await connection.ask(operations.locate_anything("half"))
            connection.abort()

        run(work())

    def test_is_not_made_where_the_other_host_cannot_be_asked_or_has_the_name(self) -> None:
        async def work() -> None:
            async with fake() as primary, fake() as alternate:
                creating(primary)
                both = [at(primary.port), at(alternate.port, "other.example")]
                assert "other.example" in await failing(create_key(both, reach(), "new", 2048, 5))
                alternate.kill()
                assert "connection refused" in await failing(create_key(both, reach(), "new", 2048, 5))
                assert "CREATE_KEY_PAIR" not in asked(primary)

        run(work())

    @pytest.mark.parametrize(
        ("version", "known", "tries"),
        [((1, 4), {"Sensitive", "Extractable"}, 1), ((1, 4), {"Sensitive"}, 2), ((1, 4), set(), 3), ((1, 3), set(), 1)],
    )
    def test_is_never_to_leave_as_far_as_the_server_can_be_told(
        self, version: tuple[int, int], known: set[str], tries: int
    ) -> None:
        def create(asked: Asked) -> Answer:
            given = {
                one.attribute_name.value: one.attribute_value
                for one in asked.payload.private_key_template_attribute.attributes
            }
            told = {name: given[name].value for name in ("Sensitive", "Extractable") if name in given}
            if not set(told) <= known:
                return asked.refuse(ResultReason.INVALID_FIELD, "what is that")
            assert told == {name: name == "Sensitive" for name in known}
            return asked.as_it_should()

        async def work() -> None:
            async with fake(versions=[version]) as one:
                creating(one)
                one.on["CREATE_KEY_PAIR"] = create
                key, protected = await create_key([at(one.port)], reach(), "new", 2048, 5)
                assert key == SIGNING_KEY.public_key()
                assert protected is bool(known)
                assert asked(one).count("CREATE_KEY_PAIR") == tries

        run(work())

    def test_that_is_refused_is_said_not_to_be_there(self) -> None:
        async def work() -> None:
            async with fake() as one:
                creating(one)
                one.on["CREATE_KEY_PAIR"] = refusing(ResultReason.PERMISSION_DENIED, "not you")
                said = await failing(create_key([at(one.port)], reach(), "new", 2048, 5))
                assert "no key pair was made: CreateKeyPair was refused (PERMISSION_DENIED): not you" in said
                assert said.endswith("leave out --create-key")
                assert asked(one).count("CREATE_KEY_PAIR") == 1

        run(work())

    def test_of_which_nothing_is_heard_is_said_to_be_unknown(self) -> None:
        def closing(asked: Asked) -> Answer:
            raise CloseNow

        async def work() -> None:
            async with fake() as one:
                creating(one)
                one.on["CREATE_KEY_PAIR"] = closing
                said = await failing(create_key([at(one.port)], reach(), "new", 2048, 5))
                assert "whether 'new' was made is not known: look there" in said

        run(work())

    @pytest.mark.parametrize("operation", ["ACTIVATE", "GET"])
    def test_that_cannot_be_used_is_said_to_be_there(self, operation: str) -> None:
        async def work() -> None:
            async with fake() as one:
                creating(one)
                one.on[operation] = refusing(ResultReason.PERMISSION_DENIED)
                said = await failing(create_key([at(one.port)], reach(), "new", 2048, 5))
                assert "the key pair 'new' was made there and stays" in said
                assert "ask again without --create-key" in said

        run(work())


class TestAPublicKey:
    @pytest.mark.parametrize("version", [(1, 2), (1, 4), (2, 0)])
    def test_is_the_one_that_the_private_key_links_to(self, version: tuple[int, int]) -> None:
        async def work() -> None:
            links = [(LinkType.CERTIFICATE_LINK, "certificate"), (LinkType.PUBLIC_KEY_LINK, "public")]
            async with fake(versions=[version], links=links) as one:
                found = await public_key(at(one.port), reach(), "signing", 5)
                assert found == SIGNING_KEY.public_key()
                assert [each.payload.unique_identifier for each in one.asked if each.operation.name == "GET"] == [
                    "public"
                ]

        run(work())

    @pytest.mark.parametrize(
        "links",
        [
            [(LinkType.PUBLIC_KEY_LINK, "secret")],  # to a private key
            [(LinkType.PUBLIC_KEY_LINK, "1")],  # to itself
            [],  # what is located is the private key itself
        ],
    )
    def test_is_not_asked_for_where_it_may_be_a_private_one(self, links: Any) -> None:
        async def work() -> None:
            async with fake(links=links) as one:
                said = await failing(public_key(at(one.port), reach(), "signing", 5))
                assert "--public-key FILE" in said
                assert "GET" not in asked(one)

        run(work())

    def test_that_turns_out_to_be_a_private_one_is_not_used(self) -> None:
        def private(asked: Asked) -> Answer:
            asked.fake.kinds = {}
            return asked.as_it_should()

        async def work() -> None:
            async with fake() as one:
                one.on["GET"] = private
                connection = await connect(at(one.port), reach())
                with pytest.raises(KmipError, match="holds no public key, but something else") as caught:
                    await connection.ask(operations.get_public_key("public"))
                assert caught.value.reason is Reason.MALFORMED
                assert not connection.usable

        run(work())

    @pytest.mark.parametrize(
        "octets",
        [
            b"nothing",
            SIGNING_KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            SIGNING_KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        ],
        ids=["nothing", "pkcs8", "pkcs1"],
    )
    def test_in_whose_place_something_else_comes_is_refused_without_quoting_it(self, octets: bytes) -> None:
        async def work() -> None:
            links = [(LinkType.PUBLIC_KEY_LINK, "public")]
            async with fake(public=octets, links=links) as one:
                said = await failing(public_key(at(one.port), reach(), "signing", 5))
                assert "it is no public key that can be read" in said
                assert said.endswith("give it with --public-key FILE")

        run(work())

    def test_that_may_not_be_got_is_asked_of_the_administrator(self) -> None:
        async def work() -> None:
            async with fake(links=[(LinkType.PUBLIC_KEY_LINK, "public")]) as one:
                one.on["GET"] = refusing(ResultReason.PERMISSION_DENIED, "not you")
                said = await failing(public_key(at(one.port), reach(), "signing", 5))
                assert "Get was refused (PERMISSION_DENIED): not you; give it with --public-key FILE" in said

        run(work())

    def test_of_a_key_that_has_none_there_is_asked_of_the_administrator(self, manager: KmipServer) -> None:
        said = run(failing(public_key(at(manager.port), reach(), "signing", 10)))
        assert "tells of no public key of 'signing'; give it with --public-key FILE" in said
        assert "no private key of the name" in run(failing(public_key(at(manager.port), reach(), "nowhere", 10)))

    def test_of_the_same_name_is_taken_where_there_are_no_links(self, manager: KmipServer) -> None:
        manager.register("both", SIGNING_KEY)
        manager.register_public("both", SIGNING_KEY.public_key())
        assert run(public_key(at(manager.port), reach(), "both", 10)) == SIGNING_KEY.public_key()

    @pytest.mark.parametrize("kind", ["ec256", "ec384"])
    def test_may_be_on_a_curve(self, kind: str) -> None:
        async def work() -> None:
            key = kept_key(kind, 3)
            async with fake(key=key, links=[(LinkType.PUBLIC_KEY_LINK, "public")]) as one:
                assert await public_key(at(one.port), reach(), "signing", 5) == key.public_key()

        run(work())

    def test_that_is_long_in_coming_costs_the_time_that_was_given(self) -> None:
        async def work() -> None:
            async with fake() as one:
                one.on["LOCATE"] = lambda _: None
                assert "no answer within 0.3 s" in await failing(public_key(at(one.port), reach(), "signing", 0.3))

        run(work())
