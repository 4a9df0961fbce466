from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import motet as package

from .conftest import COMMAND, Motet, environment

FEW = ("--max-tokens", "12", "--seed", "1", "-t", "1")


def test_version(motet: Motet) -> None:
    done = motet("--version")
    assert (done.returncode, done.stdout) == (0, f"motet {package.__version__}\n")


def test_run_streams_the_answer_alone_to_stdout(motet: Motet, tiny_checkpoint: Path) -> None:
    done = motet("run", "-m", tiny_checkpoint, "hello", *FEW, "--stats")
    again = motet("run", "-m", tiny_checkpoint, "-", *FEW, stdin="hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout
    assert done.stdout.endswith("\n")
    assert "cut off after 12 tokens" in done.stderr
    assert "12 generated" in done.stderr
    assert "tok/s" not in again.stderr


def test_run_json(motet: Motet, tiny_checkpoint: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"name": "f", "parameters": {"type": "object"}}]))
    system = ("--system", "Be brief.", "--effort", "high", "--tools", str(tools))
    done = motet("run", "-m", tiny_checkpoint, "hello", *FEW, *system, "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["object"] == "chat.completion"
    assert body["usage"]["completion_tokens"] == 12
    plain = motet("run", "-m", tiny_checkpoint, "hello", *FEW, "--json")
    longer = body["usage"]["prompt_tokens"] - json.loads(plain.stdout)["usage"]["prompt_tokens"]
    assert longer > len("Be brief.")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "COMMAND"),
        (["dance"], 2, "invalid choice"),
        (["run", "hello", "--temperature", "x"], 2, "invalid float"),
        (["run", "hello", "--temperature", "-1"], 2, "temperature: expected"),
        (["run", "hello", "-t", "0"], 2, "threads: expected"),
        (["run", "hello", "--max-context", "20"], 2, "the context 20"),
        (["run", "hello", "--tools", "absent.json"], 3, "absent.json"),
        (["run", "hello", "-m", "no/such-model"], 3, "no/such-model"),
        (["inspect", "-m", "no/such-model"], 3, "no/such-model"),
        (["bench", "-p", "-5"], 2, "-p"),
        (["bench", "-r", "0"], 2, "-r"),
        (["bench", "-d", "0,999999999"], 2, "-p, -n and -d: expected at most"),
    ],
)
def test_exit_codes(
    motet: Motet, tiny_checkpoint: Path, args: list[str], code: int, message: str
) -> None:
    if "hello" in args and "-m" not in args:
        args = [*args, "-m", str(tiny_checkpoint)]
    done = motet(*args)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_damaged_checkpoint_is_a_failure(
    motet: Motet, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / "config.json").write_text("{}")
    for command in (["run", "hi"], ["inspect"]):
        done = motet(*command, "-m", copy)
        assert done.returncode == 1
        assert done.stderr.startswith("motet: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stdin", [b"\xff\xfe", b""])
def test_bad_stdin(motet: Motet, tiny_checkpoint: Path, stdin: bytes) -> None:
    done = motet("run", "-m", tiny_checkpoint, "-", *FEW, stdin=stdin)
    assert done.returncode == (2 if stdin else 0)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_tools_that_are_no_json(
    motet: Motet, tiny_checkpoint: Path, tmp_path: Path, text: str
) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(text)
    done = motet("run", "-m", tiny_checkpoint, "hi", "--tools", tools)
    assert (done.returncode, "--tools: expected JSON" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("run hi", "<&- >&- 2>&-"),
        ("run hi", "2>&-"),
        ("run -", "<&-"),
        ("chat", "<&-"),
        ("inspect", ">&-"),
    ],
)
def test_streams_that_the_caller_closed(
    tiny_checkpoint: Path, tmp_path: Path, command: str, closed: str
) -> None:
    """Supervisors start programs so: what nobody reads goes nowhere, stdin is at its end."""
    errors = tmp_path / "errors"
    few = () if command == "inspect" else FEW
    words = shlex.join([*COMMAND, *command.split(), "-m", str(tiny_checkpoint), *few])
    done = subprocess.run(
        ["sh", "-c", f"{words} 2>{shlex.quote(str(errors))} {closed}"],
        stdout=subprocess.PIPE,
        env=environment(),
        timeout=120,
    )
    assert (done.returncode, "Traceback" in errors.read_text()) == (0, False)
    assert bool(done.stdout) == (command.startswith("run") and ">&-" not in closed.split())


def test_chat_line_that_is_no_text(motet: Motet, tiny_checkpoint: Path) -> None:
    done = motet("chat", "-m", tiny_checkpoint, *FEW, stdin=b"\xff\nhello\n")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "motet: " in done.stderr
    assert done.stdout  # the next line's answer


def test_interrupt(tiny_checkpoint: Path) -> None:
    model = ("-m", str(tiny_checkpoint), "-t", "1")
    process = subprocess.Popen(
        [*COMMAND, "bench", *model, "-p", "0", "-n", "100000", "-r", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)  # the table's head: it computes
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_chat_survives_interrupts(tiny_checkpoint: Path) -> None:
    """In a terminal: Ctrl-C stops an answer and drops a line, Ctrl-D leaves."""
    pid, terminal = pty.fork()
    if pid == 0:
        args = [*COMMAND, "chat", "-m", str(tiny_checkpoint), "-t", "1"]
        os.execve(args[0], args, environment(TERM="dumb"))
    for typed in (b"hello\n", b"\x03", b"\x03", b"\x04"):
        until_prompt(terminal)
        os.write(terminal, typed)
        if typed.endswith(b"\n"):
            time.sleep(0.2)  # some of the answer, which may also have ended by itself
            os.write(terminal, b"\x03")
    # A random answer may hold a prompt's characters, and Ctrl-D then comes while it still runs.
    deadline = time.monotonic() + 60
    with contextlib.suppress(OSError):  # the other end has closed
        while time.monotonic() < deadline and not has_left(terminal):
            os.write(terminal, b"\x04")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def until_prompt(terminal: int) -> None:
    """Reads up to a prompt, presses Ctrl-C again every few seconds in which nothing comes.

    CPython's input() over readline loses one that arrives after the prompt is out and before it
    waits for a key, and notices it at the next key only.
    """
    seen = b""
    deadline = time.monotonic() + 60
    while not seen.endswith(b"> "):
        assert time.monotonic() < deadline, f"no prompt after {seen!r}"
        if select.select([terminal], [], [], 5)[0]:
            seen += os.read(terminal, 1)
        else:
            os.write(terminal, b"\x03")


def has_left(terminal: int) -> bool:
    """Read what is there; whether the other end closes within a second."""
    try:
        while select.select([terminal], [], [], 1)[0]:
            if not os.read(terminal, 4096):
                return True
    except OSError:
        return True
    return False


def test_reader_that_leaves(tiny_checkpoint: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "inspect", "-m", str(tiny_checkpoint)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_inspect(motet: Motet, tiny_checkpoint: Path) -> None:
    done = motet("inspect", "-m", tiny_checkpoint)
    assert done.returncode == 0
    assert "layer_is_sliding             sf" in done.stdout
    assert "model.layers.1.mlp.experts.down_proj_blocks" in done.stdout
    body = json.loads(motet("inspect", "-m", tiny_checkpoint, "--json").stdout)
    assert body["config"]["num_layers"] == 2
    assert body["tensors"]["lm_head.weight"]["shape"] == [320, 64]
    total = sum(tensor["bytes"] for tensor in body["tensors"].values())
    size = (tiny_checkpoint / "model.safetensors").stat().st_size
    assert size * 0.9 < total < size


def test_doctor(motet: Motet) -> None:
    done = motet("doctor")
    assert done.returncode in (0, 1)
    for word in ("motet", "kernels", "memory", "model cache", "bundled"):
        assert f"\n{word}" in "\n" + done.stdout


def test_bench(motet: Motet, tiny_checkpoint: Path) -> None:
    args = (
        "bench",
        "-m",
        tiny_checkpoint,
        "-p",
        "8,16",
        "-n",
        "4",
        "-d",
        "0,8",
        "-r",
        "2",
        "-t",
        "1",
    )
    lines = motet(*args).stdout.splitlines()
    assert [line.split(" | ")[-2] for line in lines[2:]] == [
        "pp8",
        "pp16",
        "tg4",
        "pp8 @ d8",
        "pp16 @ d8",
        "tg4 @ d8",
    ]
    body = json.loads(motet(*args, "--json").stdout)
    assert len(body["tests"]) == 6
    assert all(len(test["samples"]) == 2 for test in body["tests"])


def test_output_that_can_not_show_it_all(tiny_checkpoint: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "run", "-m", str(tiny_checkpoint), "hi", *FEW, "--system", "\u65e5"],
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii"),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_json_loses_nothing_where_output_can_not_show_it(tiny_checkpoint: Path) -> None:
    messages = []
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [*COMMAND, "run", "-m", str(tiny_checkpoint), "hi", *FEW, "--json"],
            capture_output=True,
            env=environment(PYTHONIOENCODING=encoding),
            timeout=120,
        )
        body = json.loads(done.stdout.decode(encoding))
        messages.append({**body["choices"][0]["message"], "tool_calls": None})
    assert not json.dumps(messages[0], ensure_ascii=False).isascii()
    assert messages[0] == messages[1]


def test_chat_from_a_pipe(motet: Motet, tiny_checkpoint: Path) -> None:
    done = motet("chat", "-m", tiny_checkpoint, *FEW, stdin="one\n\ntwo\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 1


@pytest.mark.parametrize("no_color", [False, True])
def test_reasoning_is_dim_on_a_terminal(no_color: bool) -> None:
    """Through a pseudo-terminal for stderr; NO_COLOR is respected."""
    program = (
        "from motet.cli.terminal import Printer; from motet.results import Delta\n"
        "p = Printer(); p.show(Delta('reasoning', 'hm')); p.show(Delta('text', 'yes')); p.end()"
    )
    ours, theirs = pty.openpty()
    changes = {"TERM": "xterm", "NO_COLOR": "1" if no_color else ""}
    done = subprocess.run(
        [COMMAND[0], "-c", program],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(**changes),
        timeout=120,
    )
    os.close(theirs)
    time.sleep(0.05)
    seen = os.read(ours, 1000)
    os.close(ours)
    assert done.stdout == b"yes\n"
    assert seen == (b"hm\r\n" if no_color else b"\x1b[2mhm\x1b[0m\r\n")
