"""A model under llama.cpp's low-level API: one context, a sequence per slot, one thread for all.

The only module that imports `llama_cpp`, and never its `Llama` class: that one aborts the process
when two threads use it, copies the logits of every token, and keeps a sampler of its own. Only
the child of `inference.engine.host` loads this, since a failed assertion in C ends the process.
"""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, final

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as low

from inference.engine import sample
from inference.engine.base import STRICT_ROWS, Failed, Fault, Plan, Tokens
from inference.engine.batch import Draw, Drawn, Outcome, Step

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
        self._vocabulary = vocabulary
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
        self._abort = low.ggml_abort_callback(lambda _data: aborted())
        self._batch = _Batch.of(plan.batch)
        self._computed = [0] * plan.slots
        """rows of each sequence that its cache has"""
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
        drawn, last = [], -1
        for part in step.parts:
            self._computed[part.slot] += len(part.tokens)
            last += len(part.tokens)
            row = None if part.draw is None else self._row(last)
            if row is not None and not np.isfinite(row.max()):
                self._clear()
                return Outcome(fault=Fault.DECODE)
            drawn.append(None if row is None or part.draw is None else self._draw(row, part.draw))
        return Outcome(drawn=tuple(drawn))

    def close(self) -> None:
        """Free everything; the object is dead after it."""
        if self._context is not None:
            low.llama_free(self._context)
            self._context = None
        low.llama_batch_free(self._batch.raw)
        low.llama_model_free(self._model)

    # --- the context ---

    def _renew(self) -> bool:
        """A fresh context, instead of one that may be broken. False if there is no memory."""
        if self._context is not None:
            low.llama_free(self._context)
        self._context = low.llama_init_from_model(self._model, _context_params(self._plan))
        self._computed = [0] * self._plan.slots
        if self._context is None:
            return False
        low.llama_set_abort_callback(self._context, self._abort, ctypes.c_void_p(0))
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

    def _draw(self, row: sample.Row, draw: Draw) -> Drawn:
        token = sample.choose(row, draw.sampling, draw.answer)
        ends, text = self.vocabulary.ends(token), self.vocabulary.text(token)
        if not draw.logprobs:
            return Drawn(token=token, text=text, ends=ends)
        logs = sample.logprobs(row)
        top = sample.most_likely(logs, draw.logprobs)
        return Drawn(token=token, text=text, ends=ends, logprob=float(logs[token]), top=top)


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


def _kernel_rows(plan: Plan) -> int:
    return min(plan.ubatch, STRICT_ROWS) if plan.strict else plan.ubatch


def usual_threads() -> int:
    """All logical processors of a small machine, half of a bigger one's: there are two to a core,
    and the second of a core brings little."""
    count = os.cpu_count() or 1
    return max(min(count, 4), count // 2)
