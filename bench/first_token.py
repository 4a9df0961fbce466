"""Loads a model and prints the first token of a 16-token prompt, for whoever times the process."""

from __future__ import annotations

import sys


def main() -> None:
    engine, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    prompt = [1 + 7919 * i for i in range(16)]
    if engine == "llama_cpp":
        from llama_cpp import Llama

        llama = Llama(model, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
        print(next(llama.generate(prompt, temp=0.0)), flush=True)
    else:
        from motet import LLM

        llm = LLM(model, precision=engine, threads=threads, max_context=2048)  # type: ignore[arg-type]
        for delta in llm.stream(prompt, max_tokens=1, temperature=0.0):
            print(repr(delta), flush=True)


if __name__ == "__main__":
    main()
