"""Other wordings of a question, bought from the model that will answer it, so that what says it otherwise is found.

They are data of the search alone: the answer's prompt has none of them.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from apps.agents import prompts
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway import operations
from apps.gateway import services as gateway
from apps.gateway.errors import PROVIDER_FAILED
from apps.gateway.types import Charge, TokenCounts

logger = logging.getLogger(__name__)

#: The longest that a question waits for its wordings, all calls together.
MAX_SECONDS = 30.0
#: What is longer is no wording of a question.
MAX_CHARACTERS = 500

#: Models make lists with other marks than they are told to.
_WORDING = re.compile(r"(?:[-*•]|\d[.)])\s+(?P<text>\S.*)")
#: What has none in it cannot be embedded everywhere. Looked for apart, as one pattern for both takes long over blanks.
_WORD = re.compile(r"\w")


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """At most three wordings, the question not among them, and what they took."""

    wordings: tuple[str, ...] = ()
    counts: TokenCounts = field(default_factory=TokenCounts)


def expand(ctx: ExecutionContext, charge: Charge, question: str, *, cancelled: Callable[[], bool]) -> Expansion:
    """The question's other wordings, bought once; none where the provider fails.

    An answer needs none. So what the provider fails after as many attempts as other calls have is given up for this
    run, and whether it can be answered is for the answer's own call to find out. Raises what else ``gateway.complete``
    raises: CallCancelledError, and the ledger's refusals, which the answer would meet as well.
    """
    assert ctx.llm_config is not None
    request = prompts.rewording(ctx.llm_config, question)
    hurried = ctx.renewed(MAX_SECONDS)
    try:
        bought = gateway.complete(hurried, charge, request, provider=ctx.llm_config.provider, cancelled=cancelled)
    except PROVIDER_FAILED as error:
        logger.warning("question is searched for as it is", extra={"run": str(charge.run_id), "code": error.reason})
        # What may still be tried of it must not be: where it was called for, a later delivery does without, too.
        with unit_of_work(ctx):
            operations.abandon(ctx, error, charge=charge)
        return Expansion()
    return Expansion(wordings=read(bought.text, question), counts=bought.counts)


def read(text: str, question: str) -> tuple[str, ...]:
    """The wordings in a model's text, which may hold anything: one a marked line, none of them the question itself."""
    found = {_folded(question): ""}
    for line in text.splitlines():
        match = _WORDING.fullmatch(line.strip())
        if match and len(match["text"]) <= MAX_CHARACTERS and _WORD.search(match["text"]):
            found.setdefault(_folded(match["text"]), match["text"])
    return tuple(found.values())[1 : prompts.MAX_WORDINGS + 1]


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
