"""What turns a task into a vector: the interface, and the small model that comes with the extra ``semantic``."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from claude_force.domain.errors import OptionalDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Vectors: TypeAlias = NDArray[np.float32]

# Where the package `wordllama` keeps its weights and their tokenizer.
_WEIGHTS: Final = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER: Final = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_NEEDED: Final = ("numpy", "safetensors", "tokenizers")


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how similar the texts are.

    * ``embed`` gives one row of float32 for each text, of length 1; a row of zeros is similar to nothing.
    * Equal texts have equal vectors, in every process, for as long as ``name`` is the same. Vectors under different
      names are never compared, so a change of weights needs another name.
    * It may wait and compute: it is called on a thread of the cache, by one caller at a time.
    * What it raises costs the hit, not the answer.
    """

    @property
    def name(self) -> str:
        """The model, its version, and whatever else the vectors depend on."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of ``texts``, one row each."""


class WordLlamaEmbedder:
    """The mean of word vectors of 256 dimensions, 32,000 words and parts of words, from the package ``wordllama``.

    Its weights (16 MB, MIT) are inside the package, so nothing is downloaded, and a task takes a fifth of a
    millisecond on one core. The mean does not know the order of words, and hardly a negation: that is what the guard
    is for. English only. Nothing is read before the first use, which takes about 0.3 s.
    """

    name: Final = "wordllama l2_supercat 256"

    def __init__(self) -> None:
        self._model: tuple[Tokenizer, NDArray[np.float16]] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of ``texts``; see `Embedder`."""
        import numpy as np  # noqa: PLC0415 - heavy, and few programs need it

        tokenizer, weights = self._loaded()
        rows = np.zeros((len(texts), weights.shape[1]), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            # One at a time: a batch starts threads, which a fork afterwards complains of.
            words = tokenizer.encode(text, add_special_tokens=False).ids
            if words:
                mean = weights[words].astype(np.float32).mean(axis=0)
                row[:] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return rows

    def _loaded(self) -> tuple[Tokenizer, NDArray[np.float16]]:
        # Two threads may both read it: that is harmless, and no lock is left behind by a fork.
        if self._model is None:
            # The files are read without the package: importing it sets up the root logger, imports an HTTP client
            # and a validator, and looks for the tokenizer in a folder that is not there, to download it.
            from safetensors import safe_open  # noqa: PLC0415 - as above
            from tokenizers import Tokenizer  # noqa: PLC0415 - as above

            folder = _wordllama_folder()
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            with safe_open(folder / _WEIGHTS, framework="np") as file:
                self._model = tokenizer, file.get_tensor("embedding.weight")
        return self._model


@cache
def own_embedder() -> WordLlamaEmbedder:
    """The model of the extra, one for the whole process."""
    return WordLlamaEmbedder()


def check_installed(*, own_embedder: bool) -> None:
    """Pass when the packages of the extra are there; nothing of them is imported.

    Raises:
        OptionalDependencyError: one is missing, or has not what is needed.
    """
    for name in _NEEDED[:1] if own_embedder else _NEEDED:
        if find_spec(name) is None:
            raise _missing(name)
    if not own_embedder:
        _wordllama_folder()


def _wordllama_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise _missing("wordllama")
    folder = Path(spec.origin).parent
    for file in (_WEIGHTS, _TOKENIZER):
        if not (folder / file).is_file():
            raise _missing(f"wordllama with {file}")
    return folder


def _missing(what: str) -> OptionalDependencyError:
    return OptionalDependencyError(
        f"The semantic cache needs {what}, which is not installed; nothing was sent. "
        "Install it with: pip install 'claude-force[semantic]'"
    )
