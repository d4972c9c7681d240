"""Answers that a grammar constrains: decoded freely, checked token by token, and masked only where they violate it.

To mask the logits of every step, each row would need a run of the engine for each token, since nothing can be changed
within a run. So a row decodes in an ordinary batch until its first token that the grammar forbids. There its run ends;
the token is chosen again among the allowed ones, every token that can only follow is appended, and the row goes on
after them. For greedy decoding this gives the tokens that masking each step gives.

A JSON answer whose tokens run out is closed with the last of them, where all that its schema asks for stands already:
it is shortened, and valid all the same.
"""

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from threading import Lock
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from headrace_schemas import HeadraceError, Sampling, Usage
from headrace_schemas.errors import Unparsable
from headrace_schemas.output_format import Failure, JsonObjectFormat, JsonSchemaFormat, OutputFormat
from headrace_workers.models.engines.logits import LogitsStep, UnusableLogits, draw
from headrace_workers.models.engines.stopping import Row, Step, Stopper
from headrace_workers.models.generator import Request
from headrace_workers.models.structured.grammar import grammar_of, grammar_of_call
from headrace_workers.models.structured.tools import Dialect

_NUMBER_TOKENS: Final = 64  # that are looked at before a token of a number
_EXPONENT_DIGITS: Final = 3  # 1e308 is the largest power of ten
_DIGIT: Final = re.compile(rb"\d")
_IN_NUMBER: Final = re.compile(rb"\d(?:[eE][+-]?\d*)?$")
_NUMBER: Final = re.compile(rb"\d+(?:\.\d+)?[eE][+-]?(\d+)")
_MOST_ENDING: Final = 64  # tokens of an ending
_LONGEST_CLOSING: Final = 4  # bytes of a token that closes several brackets at once

MOST_COMPILED: Final = 64  # grammars of a model that are kept
MOST_CHARACTERS: Final = 4 * 1024 * 1024  # of all of them together, before they are compiled
_COMPILE_SECONDS: Final = 10.0  # of CPU that a grammar may take to compile
_COMPILE_WAIT: Final = 60.0  # seconds until it is compiled: the tokenizer is read first, and the machine may be busy
_COMPILERS: Final = 4  # threads, so that a grammar that takes long holds up no other
SECONDS_IN_A_BATCH: Final = 0.05  # of CPU that a grammar may take from the other rows of its batch
SECONDS: Final = 10.0  # of CPU that a grammar may take for one answer


class Endings:
    """The tokens that endings are made of, in the order in which they are tried."""

    def __init__(self, tokenizer: LLTokenizer, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        texts = {
            number: tokenizer.decode_bytes([number]) for number in range(tokenizer.vocab_size) if number not in end_ids
        }
        short = sorted((-len(text), number) for number, text in texts.items() if 0 < len(text) <= _LONGEST_CLOSING)

        def those(wanted: Callable[[bytes], bool]) -> list[int]:
            return [number for _, number in short if wanted(texts[number])]

        brackets = those(lambda text: not text.strip(b"}]"))
        quotes = those(lambda text: text[:1] == b'"' and not text[1:].strip(b"}]"))
        self._brackets = np.array(brackets, dtype=np.int64)
        self._closing = np.array([*quotes, *brackets], dtype=np.int64)  # a string may hold brackets, too

    def find(self, matcher: LLMatcher, written: Sequence[int], most: int) -> list[int] | None:
        """Return tokens that end an answer of which `written` stands already; None if there are none, or `most` do not
        suffice. The matcher stays where it is.
        """
        matcher = matcher.deep_copy()
        found: list[int] = []
        while not matcher.is_accepting():
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            token = _first(bits, self._closing) if found else self._first_of_all(bits, written)
            if token is None or len(found) == min(most, _MOST_ENDING) or not matcher.try_consume_tokens([token]):
                return None
            found.append(token)
        return found

    def _first_of_all(self, bits: NDArray[np.uint8], written: Sequence[int]) -> int | None:
        """Return the token that closes what is open at the end of `written`; None where it would begin or cut
        something: a quote an item or a key, a bracket a number.
        """
        sign = self._tokenizer.decode_bytes(list(written[-_LONGEST_CLOSING:])).rstrip()[-1:]
        bracket = _first(bits, self._brackets)
        if sign in (b"{", b"["):
            return bracket
        is_within_a_string = bracket is not None or sign not in (b"", b",", b":")
        token = _first(bits, self._closing)
        if token is None or token == bracket:
            return None if sign.isalnum() else token
        return token if is_within_a_string else None


def _first(bits: NDArray[np.uint8], order: NDArray[np.int64]) -> int | None:
    """Return the first of these tokens that may follow, by its bit."""
    allowed = order[bits[order] == 1]
    return int(allowed[0]) if len(allowed) else None


class Numbers:
    """The tokens that would write a number of JSON that nobody can read, such as 7e535991. llguidance lets an exponent
    have any digits, and takes no other rule for numbers.
    """

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._quotes = [number for number in range(tokenizer.vocab_size) if tokenizer.decode_bytes([number]) == b'"']

    def may_leave(self, written: Sequence[int], token: int) -> bool:
        """Return True if a token behind these would write such a number, unless they stand in a string."""
        return self._leaves(self._tail(written), token)

    def bounded(self, may: NDArray[np.bool_], written: Sequence[int]) -> NDArray[np.bool_]:
        """Return which of the tokens that may follow these write no such number. A string, in which a quote may follow,
        may have all; and so may an answer that could not go on otherwise.
        """
        tail = self._tail(written)
        in_string = may[self._quotes].any()
        if in_string or not _IN_NUMBER.search(tail):
            return may
        found = may.copy()
        found[[token for token in np.flatnonzero(may) if self._leaves(tail, int(token))]] = False
        return found if found.any() else may

    def _tail(self, written: Sequence[int]) -> bytes:
        return self._tokenizer.decode_bytes(list(written[-_NUMBER_TOKENS:]))

    def _leaves(self, tail: bytes, token: int) -> bool:
        text = self._tokenizer.decode_bytes([token])
        if not _DIGIT.search(text):
            return False
        numbers = _NUMBER.finditer(tail + text)
        return any(
            len(number[1]) > _EXPONENT_DIGITS or math.isinf(float(number[0]))
            for number in numbers
            if number.end() > len(tail)
        )


def limits(max_lexer_states: int = 50_000) -> LLParserLimits:
    """Return the bounds of one grammar: a state of its lexer takes a kilobyte or two. Else they are the library's."""
    return LLParserLimits(max_lexer_states=max_lexer_states, verbose_errors=False)


LIMITS = limits()


def grammar_for(request: Request, dialect: Dialect) -> str | None:
    """Return the grammar that the answer to this request must follow, in llguidance's notation, if there is one. Calls
    of tools are written in the model's `dialect`.
    """
    if request.offer:
        return grammar_of_call(request.offer, dialect, request.output)
    return None if request.output is None else grammar_of(request.output)


@dataclass(slots=True, eq=False)
class Compiling:
    """A grammar on its way to a matcher at the beginning of an answer. Copy that; never move it.

    `clock` tells the CPU seconds of the thread that compiles it, once that has begun.
    """

    matcher: "Future[LLMatcher]" = field(default_factory=Future)
    clock: Callable[[], float] | None = None
    _began: float = 0.0

    def begin(self) -> None:
        """Count from here on what this thread does. A system without clocks of threads counts all that passes."""
        clock: Callable[[], float] = time.monotonic
        if hasattr(time, "pthread_getcpuclockid"):
            clock = partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
        self._began, self.clock = clock(), clock

    @property
    def seconds(self) -> float:
        """Return the CPU seconds that it has taken so far."""
        return self.clock() - self._began if self.clock else 0.0


class Grammars:
    """The grammars that a model was asked for last, compiled for its tokenizer. Thread-safe.

    `tokenizer` is the JSON of a `tokenizer.json`. It is read when the first grammar is asked for.
    """

    def __init__(self, tokenizer: Callable[[], str], end_ids: Sequence[int]) -> None:
        self._read = tokenizer
        self._end_ids = list(end_ids)
        self._tokenizer: LLTokenizer | None = None
        self._endings: Endings | None = None
        self._numbers: Numbers | None = None
        self._lock = Lock()
        self._reading = Lock()
        self._compiled: OrderedDict[bytes, tuple[Compiling, int]] = OrderedDict()
        self._compiler = ThreadPoolExecutor(_COMPILERS, thread_name_prefix="grammars")

    def ask(self, grammar: str) -> Compiling:
        """Return a grammar that is compiled, or will be."""
        digest = blake2b(grammar.encode(), digest_size=16).digest()
        with self._lock:
            if digest in self._compiled:
                self._compiled.move_to_end(digest)
                return self._compiled[digest][0]
            compiling = Compiling()
            compiling.matcher = self._compiler.submit(self._compile, grammar, compiling)
            self._compiled[digest] = (compiling, len(grammar))
            while len(self._compiled) > 1 and (
                len(self._compiled) > MOST_COMPILED
                or sum(size for _, size in self._compiled.values()) > MOST_CHARACTERS
            ):
                self._compiled.popitem(last=False)
            return compiling

    def row(
        self,
        grammar: str,
        output: OutputFormat | None,
        row: Row,
        sampling: Sampling,
        decode: Callable[[list[int]], str],
    ) -> "ConstrainedRow":
        """Return an answer that must follow a grammar. JSON is shortened, but no call of a tool: that is acted on, and
        has no `output`.
        """
        is_json = isinstance(output, JsonSchemaFormat | JsonObjectFormat)
        return ConstrainedRow(
            row, sampling, self.ask(grammar), endings=self._known_endings if is_json else None,
            numbers=self._known_numbers if is_json or output is None else None, end_ids=self._end_ids, decode=decode,
        )  # fmt: skip

    def _known_endings(self) -> Endings:
        """Return the endings of answers; only once a grammar is compiled."""
        assert self._endings is not None  # noqa: S101 - `_compile` comes first
        return self._endings

    def _known_numbers(self) -> Numbers:
        assert self._numbers is not None  # noqa: S101 - `_compile` comes first
        return self._numbers

    def _compile(self, grammar: str, compiling: Compiling) -> LLMatcher:
        with self._reading:
            if self._tokenizer is None:
                self._tokenizer = LLTokenizer(self._read(), eos_token=self._end_ids)
                self._endings, self._numbers = Endings(self._tokenizer, self._end_ids), Numbers(self._tokenizer)
        compiling.begin()
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)


class ConstrainedRow:
    """An answer that must follow a grammar, while it grows. It belongs to one thread at a time.

    A run of the engine ends with its first token that the grammar forbids: the row `is_violated`. `error` says why no
    answer can come. Without `endings` no answer is shortened, and without `numbers` no number is bounded.
    """

    def __init__(
        self,
        row: Row,
        sampling: Sampling,
        compiling: Compiling,
        *,
        endings: Callable[[], Endings] | None,
        numbers: Callable[[], Numbers] | None = None,
        end_ids: Sequence[int],
        decode: Callable[[list[int]], str],
    ) -> None:
        self.row = row
        self.ended = False  # the answer is whole, or cut, or given up, or failed
        self.is_whole = False  # the grammar lets it end here
        self.is_shortened = False  # it was ended since its tokens ran out
        self.is_violated = False
        self.is_slow = False  # its grammar takes too long to check beside other rows
        self.error: HeadraceError | None = None
        self.is_run = False  # the model has read its prompt
        self._sampling = sampling
        self._compiling = compiling
        self._asked = time.monotonic()
        self._matcher: LLMatcher | None = None
        self._endings, self._numbers = endings, numbers
        self._look_at = row.limit // 2  # tokens after which an ending is looked for
        self._last_ending: tuple[int, list[int]] | None = None  # the tokens before it, and it
        self._end_ids: Final = frozenset(end_ids)
        self._stopper = Stopper([row], decode)
        self._random = np.random.default_rng()
        self._seconds = 0.0

    def start(self, wait: float = 0.0) -> bool:
        """Begin with the tokens that every answer begins with; return False if the grammar compiles still.

        Wait so many seconds for it. The row fails if it compiles for too long.
        """
        if self._matcher is not None or self.ended:
            return True
        try:
            compiled = self._compiling.matcher.result(wait)
        except NotYet:
            if self._compiling.seconds > _COMPILE_SECONDS:
                self.fail(f"its grammar takes longer than {_COMPILE_SECONDS:.0f} s to compile: make it simpler")
            elif time.monotonic() - self._asked > _COMPILE_WAIT:
                self.fail(f"its grammar was not compiled within {_COMPILE_WAIT:.0f} s: make it simpler")
            return self.ended
        except Exception as error:  # the library's: this row's alone
            self.fail(f"its grammar cannot be compiled ({type(error).__name__})")
            return True
        self._matcher = compiled.deep_copy()
        if self._works():
            self.add_forced()
        return True

    @property
    def left(self) -> int:
        """The number of tokens that the answer may still get."""
        return self.row.limit - len(self.row.ids)

    @property
    def is_cut(self) -> bool:
        """True if the answer ended since its tokens ran out."""
        return self.is_shortened or not (self.is_whole or self.left)

    def add(self, token: int) -> bool:
        """Give the row the engine's next token; return True if the run ends with it."""
        begun = time.thread_time()
        run_ends = self._add(token)
        self._seconds += time.thread_time() - begun
        if self._seconds > SECONDS and not self.ended:
            self.fail(f"its grammar takes longer than {SECONDS:.0f} s to check: make it simpler")
        if self._seconds > SECONDS_IN_A_BATCH and not self.is_slow:
            self.is_slow = run_ends = True
        if (
            self._endings
            and len(self.row.ids) >= self._look_at
            and not (self.is_whole or self.row.is_given_up or self.error)
        ):
            self._keep_room(self._endings())
        return run_ends or self.ended

    def choose(self, logits: NDArray[np.float32]) -> None:
        """Choose the next token among those that the grammar allows, and append it and all that can only follow.

        `logits` is (vocabulary,).
        """
        self.is_violated = False
        token = self.allowed(logits, self._random.random())
        if token is not None and not self.add(token):
            self.add_forced()
        if self.is_violated:  # the row would never end
            self.fail("its grammar refuses a token that it has allowed")

    def allowed(self, logits: NDArray[np.float32], point: float) -> int | None:
        """Return the token that `point`, in [0, 1), falls on among those allowed; None if the row has failed."""
        allowed = self._may_follow()
        if not self._works():
            return None
        known = min(len(logits), len(allowed))  # a model may have logits for more than its tokenizer has, as padding
        may = allowed[:known]
        if not may.any():
            self.fail("its grammar allows no further token, and no end", "unsatisfiable")
            return None
        try:
            return draw(logits[:known], self._sampling, point, may)
        except UnusableLogits as error:
            self.ended, self.error = True, error
            return None

    def _may_follow(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._started.compute_bitmask(), dtype=np.uint8)
        may = np.unpackbits(bits, bitorder="little").astype(bool)
        return self._numbers().bounded(may, self.row.ids) if self._numbers else may

    def add_forced(self) -> None:
        """Append every token that alone can follow."""
        for token in self.forced():
            self.add(token)
            if self.ended:
                return

    def forced(self) -> list[int]:
        """Return the tokens that alone can follow."""
        return list(self._started.compute_ff_tokens())

    def fail(self, why: str, failure: Failure = "unparsable") -> None:
        """End the row with an error."""
        self.ended = True
        self.error = Unparsable(f"the answer cannot be held to its format: {why}", failure)

    def charged_error(self, prompt_tokens: int) -> HeadraceError | None:
        """Return why no answer can come, with the tokens that it took where the model was run."""
        if isinstance(self.error, Unparsable) and self.is_run:
            self.error.usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=len(self.row.ids))
        return self.error

    @property
    def _started(self) -> LLMatcher:
        assert self._matcher is not None  # noqa: S101 - `start` comes first
        return self._matcher

    def _add(self, token: int) -> bool:
        matcher = self._started
        if self.row.given_up():
            self.row.is_given_up = self.ended = True
            return True
        if token in self._end_ids:
            self.is_whole = matcher.is_accepting()
            self.ended, self.is_violated = self.is_whole, not self.is_whole
            return True
        if self._numbers and self._numbers().may_leave(self.row.ids, token) and not self._may_follow()[token]:
            self.is_violated = self._works()
            return True
        forced = matcher.compute_ff_tokens()
        if (forced and forced[0] != token) or not matcher.try_consume_tokens([token]):
            self.is_violated = self._works()
            return True
        if self._stopper.add(0, token):
            self.ended = True
        if matcher.is_stopped() and self._works():
            self.is_whole = self.ended = True
        return self.ended

    def _keep_room(self, endings: Endings) -> None:
        """Look for an ending while there is room for one; close the answer with the last found if it has no room left.

        It might have become whole until then.
        """
        written, left = len(self.row.ids), self.left
        ending = endings.find(self._started, self.row.ids, left)
        if ending is not None:
            self._last_ending = written, ending
        self._look_at = written + (1 if ending is None else max(1, (left - len(ending)) // 2))
        if left or self._last_ending is None:
            return
        place, ending = self._last_ending
        if self._started.rollback(written - place) and self._started.try_consume_tokens(ending) == len(ending):
            self.row.ids[place:] = ending
            self.ended = self.is_shortened = True
        else:
            self.fail("its grammar refuses an ending that it has allowed")

    def _works(self) -> bool:
        """Return True if the matcher is in order; else end the row with its error."""
        matcher = self._started
        if not matcher.is_error():
            return True
        reason = matcher.get_error().strip().splitlines()
        self.fail(reason[0] if reason else "its grammar failed")
        return False


class ConstrainedStopper:
    """CTranslate2's callback for a batch of constrained rows: True ends the token's row."""

    def __init__(self, rows: Sequence[ConstrainedRow]) -> None:
        self._rows = rows

    def __call__(self, step: Step) -> bool:
        row = self._rows[step.batch_id]
        row.is_run = True
        return row.add(step.token_id)


class SeededConstrainedRow:
    """CTranslate2's callback for the runs of one constrained answer that a seed decides: see `SeededRow`."""

    def __init__(self, row: ConstrainedRow, seed: int | None) -> None:
        self._row = row
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def ended(self) -> bool:
        """True when the answer gets no further token."""
        return self._row.ended

    @property
    def ids(self) -> list[int]:
        """The tokens of the answer so far."""
        return self._row.row.ids

    @property
    def left(self) -> int:
        """The number of tokens that the answer may still get."""
        return self._row.left

    def __call__(self, step: LogitsStep) -> bool:
        """Draw this step's token among those allowed; True ends the run. A token that alone can follow is not drawn."""
        self._row.is_run = True
        forced = self._row.forced()
        logits = np.array(step.logits, dtype=np.float32).reshape(-1)
        token = forced[0] if forced else self._row.allowed(logits, self._random.random())
        if token is None:
            return True
        self._row.add(token)
        if self._row.is_violated:
            self._row.fail("its grammar refuses a token that it has allowed")
        if not self.ended and token != step.token_id:
            self._row.add_forced()
        return self.ended or token != step.token_id
