"""The published tokenizer, or a visible skip where the checkout has no copy of it beside it."""

import pytest

from tests.harmony.support import SPEC, VECTORS, PublishedTokenizer, published_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PublishedTokenizer:
    if not (SPEC / "tokenizer" / "tokenizer.json").exists() or not VECTORS.exists():
        pytest.skip(
            "no ../shared/checkpoint-spec beside the checkout: the published tokenizer is not there"
        )
    return published_tokenizer()
