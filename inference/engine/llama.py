"""A model under llama.cpp's low-level API: one context, a sequence per slot, one thread for all.

The only module that imports `llama_cpp`, and never its `Llama` class: that one aborts the process
when two threads use it, copies the logits of every token, and keeps a sampler of its own. Only
the child of `inference.engine.host` loads this, since a failed assertion in C ends the process.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from itertools import accumulate
from pathlib import Path
from typing import Final, final

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as low

from inference.engine import sample
from inference.engine.base import STRICT_ROWS, Failed, Fault, Plan, Score, Scored, Tokens
from inference.engine.batch import Draw, Drawn, Outcome, Part, Step
from inference.engine.tuning import Threads

STRUCT_SIZES: Final = {
    low.llama_model_params: 80,
    low.llama_context_params: 160,
    low.llama_batch: 56,
}
"""bytes; layouts change between releases, and a wrong one corrupts memory in silence"""

for _struct, _size in STRUCT_SIZES.items():
    if ctypes.sizeof(_struct) != _size:
        raise ImportError(f"llama-cpp-python {llama_cpp.__version__} is not the one we know")

_KV_NUMBERS: Final = {"f16": 1, "q8_0": 8}
"""ggml's numbers of the types a cache may have"""

_DECODE_ABORTED: Final = 2
_TO_THE_END: Final = -1

REPLAY_ROWS: Final = 32
"""rows of a claimed answer computed at once: jobs wait no longer than for a prompt's share"""

_CONTEXT_UNIT: Final = 256
"""tokens: contexts are multiples of it"""


class _Log:
    """Counts what llama.cpp says and shows none of it: a line may quote a prompt."""

    def __init__(self) -> None:
        self.lines = 0
        self.callback = low.llama_log_callback(self._count)

    def _count(self, _level: int, _text: bytes, _data: object) -> None:
        self.lines += 1


LOG: Final = _Log()
low.llama_log_set(LOG.callback, ctypes.c_void_p(0))
low.llama_backend_init()


@final
class Vocabulary:
    """Text to tokens and back."""

    def __init__(self, model: low.llama_model_p) -> None:
        vocabulary = low.llama_model_get_vocab(model)
        if vocabulary is None:
            raise ValueError("a loaded model has a vocabulary")
        self.raw = self._vocabulary = vocabulary
        self.size = low.llama_vocab_n_tokens(vocabulary)
        self._begin = low.llama_vocab_bos(vocabulary)
        self._buffer = ctypes.create_string_buffer(256)

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a prompt, special ones parsed; a begin token is never doubled, as a
        template may have written the one that the model wants in front."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 2
        tokens = (low.llama_token * room)()
        count = low.llama_tokenize(self._vocabulary, data, len(data), tokens, room, True, True)
        ids = tuple(tokens[:count])
        return ids[1:] if ids[:2] == (self._begin, self._begin) else ids

    def ends(self, token: int) -> bool:
        """It ends an answer."""
        return bool(low.llama_vocab_is_eog(self._vocabulary, token))

    def text(self, token: int) -> bytes:
        """The bytes a token stands for; none for control tokens."""
        size = self._piece(token)
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            size = self._piece(token)
        return self._buffer.raw[:size]

    def names(self) -> dict[str, str]:
        """The begin and end tokens as a chat template writes them."""
        end = low.llama_vocab_eos(self._vocabulary)
        return {"bos_token": self._name(self._begin), "eos_token": self._name(end)}

    def _name(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes | None = low.llama_vocab_get_text(self._vocabulary, token)
        return (text or b"").decode("utf-8", "replace")

    def _piece(self, token: int) -> int:
        buffer = self._buffer
        return int(low.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False))


_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@final
class Grammar:
    """What may come next in one answer. Made by `open`; `close` frees it."""

    def __init__(self, sampler: "low.llama_sampler_p", vocabulary: Vocabulary) -> None:
        self._sampler: low.llama_sampler_p | None = sampler
        self._every = np.zeros(vocabulary.size, _CANDIDATE)
        self._every["id"] = np.arange(vocabulary.size)
        self._one = np.zeros(1, _CANDIDATE)
        self.taken = 0
        """tokens that have been"""

    @classmethod
    def open(cls, text: str, vocabulary: Vocabulary) -> "Grammar | None":
        """None if it is no grammar, or one that never ends."""
        sampler = low.llama_sampler_init_grammar(vocabulary.raw, text.encode(), b"root")
        return cls(sampler, vocabulary) if sampler else None

    def narrowed(self, row: sample.Row, drawn: int) -> sample.Row:
        """The row from which to draw: as it is if it gives a token that may come, else without all
        those that may not. To ask for the one is cheaper than to ask for all, and mostly enough."""
        if self.allows(drawn):
            return row
        self._every["logit"] = row
        self._apply(self._every)
        return self._every["logit"].copy()

    def allows(self, token: int) -> bool:
        """Whether this token may come next."""
        self._one["id"], self._one["logit"] = token, 0.0
        self._apply(self._one)
        return bool(np.isfinite(self._one["logit"][0]))

    def take(self, token: int) -> None:
        """Go on behind a token that may come. (One that may not would end the process.)"""
        low.llama_sampler_accept(self._known(), token)
        self.taken += 1

    def close(self) -> None:
        """Free it."""
        if self._sampler is not None:
            low.llama_sampler_free(self._sampler)
            self._sampler = None

    def _apply(self, candidates: "np.ndarray[tuple[int], np.dtype[np.void]]") -> None:
        array = low.llama_token_data_array(
            data=ctypes.cast(candidates.ctypes.data, ctypes.POINTER(low.llama_token_data)),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        low.llama_sampler_apply(self._known(), ctypes.byref(array))

    def _known(self) -> "low.llama_sampler_p":
        if self._sampler is None:
            raise ValueError("the grammar is closed")
        return self._sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """llama.cpp's batch with numpy views of its arrays, filled in place."""

    raw: low.llama_batch
    tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    positions: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    wanted: "np.ndarray[tuple[int], np.dtype[np.int8]]"
    sequences: "list[np.ndarray[tuple[int], np.dtype[np.int32]]]"
    """of each row, the one sequence it belongs to"""

    @classmethod
    def of(cls, size: int) -> "_Batch":
        raw = low.llama_batch_init(size, 0, 1)
        np.ctypeslib.as_array(raw.n_seq_id, (size,))[:] = 1
        return cls(
            raw=raw,
            tokens=np.ctypeslib.as_array(raw.token, (size,)),
            positions=np.ctypeslib.as_array(raw.pos, (size,)),
            wanted=np.ctypeslib.as_array(raw.logits, (size,)),
            sequences=[np.ctypeslib.as_array(raw.seq_id[row], (1,)) for row in range(size)],
        )

    def clear(self) -> None:
        self.raw.n_tokens = 0

    def add(self, slot: int, start: int, tokens: Tokens, *, outputs: int) -> None:
        """Rows of a sequence; logits are wanted of the last `outputs` of them."""
        begin: int = self.raw.n_tokens
        end = begin + len(tokens)
        self.tokens[begin:end] = tokens
        self.positions[begin:end] = np.arange(start, start + len(tokens))
        self.wanted[begin:end] = 0
        self.wanted[end - outputs : end] = 1
        for row in range(begin, end):
            self.sequences[row][0] = slot
        self.raw.n_tokens = end


@final
class LlamaDevice:
    """A `Device` on llama.cpp. Made by `open`; all calls from one thread, `close` last.

    `aborted` is asked many times per step, with the interpreter lock, while C computes: it must
    only look at a flag. True gives the step up.
    """

    def __init__(self, model: low.llama_model_p, plan: Plan, aborted: Callable[[], bool]) -> None:
        self._model = model
        self._plan = plan
        self._context: low.llama_context_p | None = None
        self._threads: Threads | None = None
        self._abort = low.ggml_abort_callback(lambda _data: aborted())
        self._batch = _Batch.of(plan.batch)
        self._computed = [0] * plan.slots
        """rows of each sequence that its cache has"""
        self._grammars: dict[int, tuple[int, Grammar]] = {}
        """slot -> the job there, and its grammar"""
        self.vocabulary = Vocabulary(model)

    @classmethod
    def open(cls, path: Path, plan: Plan, aborted: Callable[[], bool]) -> "LlamaDevice | Failed":
        """Load a file. `Failed` if it is no model that llama.cpp knows, or memory is short."""
        params = low.llama_model_default_params()
        params.n_gpu_layers = plan.gpu_layers
        model = low.llama_model_load_from_file(os.fsencode(path), params)
        if model is None:
            return Failed(fault=Fault.NO_MODEL)
        trained = low.llama_model_n_ctx_train(model)
        device = cls(model, replace(plan, context=min(plan.context, trained)), aborted)
        if not device._renew():
            device.close()
            return Failed(fault=Fault.OUT_OF_MEMORY)
        return device

    @property
    def context(self) -> int:
        """Tokens that fit: as asked for, but no more than the model was trained for."""
        return self._plan.context

    @property
    def numerics(self) -> bytes:
        """8 bytes that name what decides the numbers: engine, build, device, settings."""
        plan = self._plan
        features = low.llama_print_system_info().decode("ascii", "replace")
        parts = (
            "llama.cpp",
            f"llama-cpp-python {llama_cpp.__version__}",
            "gpu" if plan.gpu_layers else "cpu",
            blake2b(features.encode(), digest_size=8).hexdigest(),
            f"fa{int(plan.flash_attention)}",
            f"kv={plan.kv_type}",
            f"ub={_kernel_rows(plan)}",
            "split" if plan.strict else "unified",
            "weights-repack1",
        )
        return sha256(";".join(parts).encode()).digest()[:8]

    def run(self, step: Step) -> Outcome:
        """Compute a step; see `Device`."""
        emptied = [part.slot for part in step.parts if not self._forget(part.slot, part.keep)]
        if emptied:
            return Outcome(emptied=tuple(emptied))
        self._batch.clear()
        for part in step.parts:
            outputs = int(part.draw is not None)
            self._batch.add(part.slot, part.keep, part.tokens, outputs=outputs)
        code = low.llama_decode(self._known_context(), self._batch.raw)
        if code != 0:
            return self._gave_up(code, step)
        return self._drawn(step)

    def _drawn(self, step: Step) -> Outcome:
        """A token for each part that wants one."""
        drawn: list[Drawn | Fault | None] = []
        last = -1
        for part in step.parts:
            self._computed[part.slot] += len(part.tokens)
            last += len(part.tokens)
            row = None if part.draw is None else self._row(last)
            if row is not None and not np.isfinite(row.max()):
                self._clear()
                return Outcome(fault=Fault.DECODE)
            drawn.append(
                None if row is None or part.draw is None else self._draw(row, part, part.draw)
            )
        return Outcome(drawn=tuple(drawn))

    def replay(self, task: Score) -> "Replay | Failed":
        """Begin to score a claimed answer."""
        if len(task.tokens) + len(task.answer) > self.context:
            return Failed(fault=Fault.TOO_LONG, detail=self.context)
        if max(*task.tokens, *task.answer) >= self.vocabulary.size:
            return Failed(fault=Fault.BAD_REQUEST)
        replay = Replay(self._model, self._plan, task, self.vocabulary)
        return replay if replay.is_open else Failed(fault=Fault.OUT_OF_MEMORY)

    def decode_bare(self, prompts: Sequence[Tokens], length: int) -> bool:
        """So many tokens behind each prompt, the likeliest ones; whether there was room.

        One decode for each token of all, in a plain loop: no scheduler, no text, no sampling. It is
        the least that any engine does, for benchmarks to hold an engine against.
        """
        self._clear()
        drawn = []
        for slot, tokens in enumerate(prompts):
            drawn += self._likeliest([(slot, 0, tokens)])
        for at in range(length - 1):
            starts = [len(prompt) + at for prompt in prompts]
            parts = zip(range(len(prompts)), starts, drawn, strict=False)
            drawn = self._likeliest([(slot, start, (token,)) for slot, start, token in parts])
        self._clear()
        return len(drawn) == len(prompts)

    def _likeliest(self, parts: "Sequence[tuple[int, int, Tokens]]") -> list[int]:
        """The likeliest token behind each slot's rows; nothing if there was no room."""
        self._batch.clear()
        for slot, start, tokens in parts:
            self._batch.add(slot, start, tokens, outputs=1)
        if low.llama_decode(self._known_context(), self._batch.raw) != 0:
            return []
        ends = accumulate(len(tokens) for _, _, tokens in parts)
        return [int(self._row(end - 1).argmax()) for end in ends]

    def close(self) -> None:
        """Free everything; the object is dead after it."""
        if self._context is not None:
            low.llama_free(self._context)
            self._context = None
        for _, grammar in self._grammars.values():
            grammar.close()
        self._grammars.clear()
        low.llama_batch_free(self._batch.raw)
        low.llama_model_free(self._model)

    def use_threads(self, threads: Threads) -> None:
        """Compute with so many from now on."""
        self._threads = threads
        self._set_threads()

    # --- the context ---

    def _set_threads(self) -> None:
        if self._threads is not None:
            answer, prompt = self._threads.answer, self._threads.prompt
            low.llama_set_n_threads(self._known_context(), answer, prompt)

    def _renew(self) -> bool:
        """A fresh context, instead of one that may be broken. False if there is no memory."""
        if self._context is not None:
            low.llama_free(self._context)
        self._context = low.llama_init_from_model(self._model, _context_params(self._plan))
        self._computed = [0] * self._plan.slots
        if self._context is None:
            return False
        low.llama_set_abort_callback(self._context, self._abort, ctypes.c_void_p(0))
        self._set_threads()
        return True

    def _known_context(self) -> low.llama_context_p:
        if self._context is None:
            raise ValueError("the device is closed")
        return self._context

    def _memory(self) -> low.llama_memory_t:
        memory: low.llama_memory_t | None = low.llama_get_memory(self._known_context())
        if memory is None:
            raise ValueError("a context for generation has a memory")
        return memory

    def _clear(self) -> None:
        low.llama_memory_clear(self._memory(), True)
        self._computed = [0] * self._plan.slots

    def _forget(self, slot: int, keep: int) -> bool:
        """Forget a slot's cache beyond `keep`. Recurrent models cannot forget a part: then all of
        it goes, and False."""
        if keep == self._computed[slot]:
            return True
        is_done = bool(low.llama_memory_seq_rm(self._memory(), slot, keep, _TO_THE_END))
        if not is_done:
            low.llama_memory_seq_rm(self._memory(), slot, 0, _TO_THE_END)
        self._computed[slot] = keep if is_done else 0
        return is_done

    def _gave_up(self, code: int, step: Step) -> Outcome:
        if code == _DECODE_ABORTED:
            slots = tuple(part.slot for part in step.parts)
            for slot in slots:
                low.llama_memory_seq_rm(self._memory(), slot, 0, _TO_THE_END)
                self._computed[slot] = 0
            return Outcome(emptied=slots)
        if code > 0:
            self._clear()
            return Outcome(fault=Fault.OUT_OF_MEMORY)
        self._renew()
        return Outcome(fault=Fault.DECODE)

    # --- the next token ---

    def _row(self, row: int) -> sample.Row:
        """The logits of a row of the batch: a view that the next decode overwrites."""
        pointer = low.llama_get_logits_ith(self._known_context(), row)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))

    def _draw(self, row: sample.Row, part: Part, draw: Draw) -> Drawn | Fault:
        token = sample.choose(row, draw.sampling, draw.answer)
        if draw.grammar is not None:
            grammar = self._grammar(part, draw, draw.grammar)
            if grammar is None:
                return Fault.BAD_GRAMMAR
            token = sample.choose(grammar.narrowed(row, token), draw.sampling, draw.answer)
            if not grammar.allows(token):  # nothing may come at all
                return Fault.BAD_GRAMMAR
        ends, text = self.vocabulary.ends(token), self.vocabulary.text(token)
        if not draw.logprobs:
            return Drawn(token=token, text=text, ends=ends)
        logs = sample.logprobs(row)
        top = sample.most_likely(logs, draw.logprobs)
        return Drawn(
            token=token,
            text=text,
            ends=ends,
            logprob=float(logs[token]),
            top=top,
            texts=(text, *(self.vocabulary.text(other) for other, _ in top)),
        )

    def _grammar(self, part: Part, draw: Draw, text: str) -> Grammar | None:
        """The grammar of a slot's job, behind the answer so far."""
        job, grammar = self._grammars.get(part.slot, (None, None))
        if job != part.job or grammar is None:
            if grammar is not None:
                grammar.close()
                del self._grammars[part.slot]
            grammar = Grammar.open(text, self.vocabulary)
            if grammar is None:
                return None
            self._grammars[part.slot] = part.job, grammar
        for token in draw.answer[draw.free + grammar.taken :]:
            grammar.take(token)
        return grammar


@final
class Replay:
    """A claimed answer, computed again in a context of its own, which `close` frees."""

    def __init__(
        self, model: low.llama_model_p, plan: Plan, task: Score, vocabulary: Vocabulary
    ) -> None:
        self._task = task
        self._vocabulary = vocabulary
        self._rows = task.tokens + task.answer[:-1]
        self._done = 0
        self._margins: list[float] = []
        self._grammar = None if task.grammar is None else Grammar.open(task.grammar, vocabulary)
        alone = replace(plan, context=len(self._rows), slots=1, batch=REPLAY_ROWS)
        self._batch = _Batch.of(REPLAY_ROWS)
        self._context = low.llama_init_from_model(model, _context_params(alone))

    @property
    def is_open(self) -> bool:
        """Whether there was memory for it."""
        return self._context is not None

    def advance(self) -> Scored | Failed | None:
        """Compute the next rows; the margins when all are in."""
        assert self._context is not None
        start, rows = self._done, self._rows[self._done : self._done + REPLAY_ROWS]
        self._done += len(rows)
        outputs = min(len(rows), max(0, self._done - len(self._task.tokens) + 1))
        self._batch.clear()
        self._batch.add(0, start, rows, outputs=outputs)
        if low.llama_decode(self._context, self._batch.raw) != 0:
            return Failed(fault=Fault.DECODE)
        for row in range(len(rows) - outputs, len(rows)):
            pointer = low.llama_get_logits_ith(self._context, row)
            self._judge(np.ctypeslib.as_array(pointer, (self._vocabulary.size,)))
        is_over = self._done == len(self._rows)
        return Scored(margins=tuple(self._margins)) if is_over else None

    def close(self) -> None:
        """Free its memory."""
        low.llama_batch_free(self._batch.raw)
        self._close_grammar()
        if self._context is not None:
            low.llama_free(self._context)
            self._context = None

    def _judge(self, row: sample.Row) -> None:
        index, task = len(self._margins), self._task
        before, claimed = task.answer[:index], task.answer[index]
        if task.grammar is not None and index >= task.free:
            if self._grammar is None or not self._grammar.allows(claimed):
                self._close_grammar()  # behind what may not come there is nothing that may
                self._margins.append(sample.CLIP)
                return
            row = self._grammar.narrowed(row, sample.choose(row, task.sampling, before))
            if index + 1 < len(task.answer):  # the end itself is not to be gone behind
                self._grammar.take(claimed)
        self._margins.append(sample.margin(row, task.sampling, before, claimed))

    def _close_grammar(self) -> None:
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None


def _context_params(plan: Plan) -> low.llama_context_params:
    params: low.llama_context_params = low.llama_context_default_params()
    params.n_ctx = -(-plan.context // _CONTEXT_UNIT) * _CONTEXT_UNIT * plan.slots
    params.n_batch = plan.batch
    params.n_ubatch = _kernel_rows(plan)
    params.n_seq_max = plan.slots
    params.n_threads = params.n_threads_batch = plan.threads or usual_threads()
    params.flash_attn_type = (
        low.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if plan.flash_attention
        else low.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.type_k = params.type_v = _KV_NUMBERS[plan.kv_type]
    params.kv_unified = not plan.strict
    params.no_perf = True
    return params


FILE_TYPES: Final = {
    "q4_0": low.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_k_s": low.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "q8_0": low.LLAMA_FTYPE_MOSTLY_Q8_0,
}
"""what `requantise` can make"""


def requantise(source: Path, target: Path, file_type: str) -> bool:
    """Write a model's file with other weights, as a cheat would; whether that went well.

    Only for a process of its own: it takes all cores, and memory that C frees late.
    """
    params = low.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[file_type]
    params.allow_requantize = True
    made = low.llama_model_quantize(os.fsencode(source), os.fsencode(target), params)
    return int(made) == 0


def _kernel_rows(plan: Plan) -> int:
    return min(plan.ubatch, STRICT_ROWS) if plan.strict else plan.ubatch


def cores() -> int:
    """Logical processors."""
    return os.cpu_count() or 1


def usual_threads() -> int:
    """All logical processors of a small machine, half of a bigger one's: there are two to a core,
    and the second of a core brings little."""
    return max(min(cores(), 4), cores() // 2)
