"""No secret gets out, and nothing else is touched."""

import json
import re
import string
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlp.core.secrets import MASK, Masker, is_secret_name, mask_urls

# Few letters, so that secrets begin, end and repeat in each other.
SECRET = st.text("ab", min_size=6, max_size=9) | st.text(min_size=6, max_size=12)
# Where a secret ends an address by itself, more of what follows is taken for one in the whole.
WORD = SECRET.filter(lambda secret: not re.search(r"[\s'\"&;?]", secret))
PIECES = st.lists(
    st.sampled_from(["a", "b", "ab", " ", "\n", "https://", "u:", "@", "?token=", "&", "é", "x"])
    | st.text(max_size=6),
    max_size=12,
)


def environ(secrets: list[str]) -> dict[str, str]:
    return {f"N{i}_TOKEN": secret for i, secret in enumerate(secrets)}


@given(st.lists(SECRET, max_size=3), PIECES, st.data())
def test_no_secret_is_left_in_a_text(secrets: list[str], pieces: list[str], data: object) -> None:
    text = "".join([*pieces, *secrets, *pieces])
    masked = Masker(environ(secrets)).text(text)
    for secret in secrets:
        assert secret not in masked or "*" in secret


@given(st.lists(WORD, max_size=3), PIECES, st.lists(st.integers(0, 60), max_size=8))
@example(["abcabc"], ["abcabc"], [6])  # its end is its beginning, again
@example(["xxxabc", "abcdef"], ["xxxabc"], [6])  # one ends as the other begins
@example([], ["?to", "ken=abc"], [3])
@example([], ["https://u", "ser:pw@host/"], [9])
@example([], ["https:/", "/user:pw@host/"], [7])
def test_a_stream_in_pieces_is_masked_like_the_whole(
    secrets: list[str], pieces: list[str], cuts: list[int]
) -> None:
    whole = "".join([*pieces, *secrets, *pieces]).encode()
    masker = Masker(environ(secrets))
    stream = masker.stream()
    borders = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    shown = [stream.feed(whole[a:b]) for a, b in pairwise(borders)]
    assert b"".join([*shown, stream.flush()]) == masker.data(whole)


@given(st.lists(SECRET, max_size=3), PIECES, st.lists(st.integers(0, 60), max_size=8))
@example(
    ["aaaaaa", '00000"'], ["ࠀ", "?token="], [23]
)  # a quote in it ends an address, in the whole
def test_no_secret_comes_through_in_pieces(
    secrets: list[str], pieces: list[str], cuts: list[int]
) -> None:
    whole = "".join([*pieces, *secrets, *pieces]).encode()
    stream = Masker(environ(secrets)).stream()
    borders = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    shown = [stream.feed(whole[a:b]) for a, b in pairwise(borders)]
    masked = b"".join([*shown, stream.flush()]).decode(errors="surrogateescape")
    assert not any(secret in masked for secret in secrets if "*" not in secret)


@given(st.text(string.ascii_letters + string.digits + " .,\n/@é"))
def test_a_text_without_secrets_or_addresses_stays_as_it_is(text: str) -> None:
    masker = Masker(environ(["zzzzzz-zzzzzz"]))
    assert masker.text(text) == text
    stream = masker.stream()
    assert stream.feed(text.encode()) + stream.flush() == text.encode()


@pytest.mark.parametrize("text", ["\ud800 lone", "caf\udce9 from a byte", "\x00"])
def test_any_string_can_be_masked(text: str) -> None:
    assert Masker(environ(["secret-secret"])).text(f"{text} secret-secret") == f"{text} {MASK}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://ghp_abc@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("postgresql://u:p%40ss@db:5432/x", "postgresql://***@db:5432/x"),
        ("https://h/x?sig=abc&y=1", "https://h/x?sig=***&y=1"),
        ("https://h/x?y=1&access_token=abc", "https://h/x?y=1&access_token=***"),
        ('"https://h/x?token=abc"', '"https://h/x?token=***"'),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("https://host/a@b", "https://host/a@b"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("https://host/?monkey=1", "https://host/?monkey=1"),
    ],
)
def test_what_is_secret_in_an_address_is_masked_and_nothing_else(url: str, shown: str) -> None:
    assert mask_urls(url) == shown


@given(st.text(min_size=1))
def test_masking_an_encoded_text_leaves_it_readable(value: str) -> None:
    line = json.dumps({"command": f'curl "https://h/?token={value}" https://u:{value}@h "x'})
    json.loads(Masker({}).text(line))


@pytest.mark.parametrize(
    "name",
    [
        "MY_API_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "password",
        "GITHUB_PAT",
        "OPENAI_KEY",
    ],
)
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "SSL_CERT_FILE", "AUTHOR"]
)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


def test_a_password_in_any_variable_is_secret_everywhere() -> None:
    masker = Masker({"DATABASE": "postgresql://me:hunter22@db/x"})
    assert masker.text("login failed for hunter22") == f"login failed for {MASK}"


def test_a_secret_is_masked_in_json_too() -> None:
    secret = 'quote" and é'
    assert "quote" not in Masker({"A_TOKEN": secret}).text(json.dumps({"x": secret}))
