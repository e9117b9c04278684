"""Claims about `serve`: what variables become, what is refused with which words, and what is never shown."""

import shlex
from pathlib import Path

import pytest
from tests.docscommands import dry_runs
from tests.runtimebuilder import free_port, listening

from spark import commands, limits
from spark.say import SparkError, masked, without_secrets
from spark.serve import KV_CACHE_DTYPES, check_place, check_port, command_line, from_file, option_of

MODEL = "Qwen/Qwen3-1.7B"
TOKEN = "hf_" + 34 * "a"
# As the users of such images start them.
SEED = {
    "MODEL": "DevQuasar/Qwen.Qwen3-Next-80B-A3B-Instruct-FP8-Dynamic",
    "PORT": "8888",
    "TENSOR_PARALLEL_SIZE": "1",
    "MAX_MODEL_LEN": "65536",
    "GPU_MEMORY_UTIL": "0.88",
    "VLLM_EXTRA_ARGS": "--kv-cache-dtype fp8 --swap-space 32 --tool-call-parser hermes --reasoning-parser qwen3",
}


def command(*words: str, **environment: str) -> list[str]:
    return command_line(words, environment)


def refusal(*words: str, **environment: str) -> str:
    with pytest.raises(SparkError) as caught:
        command_line(words, environment)
    assert caught.value.status == 2
    return str(caught.value)


# ---- variables


@pytest.mark.parametrize(
    ("variable", "value", "option"),
    [
        ("HOST", "127.0.0.1", "--host"),
        ("HOST", "::", "--host"),
        ("HOST", "spark-1.local", "--host"),
        ("PORT", "1", "--port"),
        ("PORT", "65535", "--port"),
        ("TENSOR_PARALLEL_SIZE", "2", "--tensor-parallel-size"),
        ("MAX_MODEL_LEN", "65536", "--max-model-len"),
        ("MAX_MODEL_LEN", "64k", "--max-model-len"),
        ("MAX_MODEL_LEN", "1.5k", "--max-model-len"),
        ("MAX_MODEL_LEN", "1M", "--max-model-len"),
        ("MAX_MODEL_LEN", "-1", "--max-model-len"),
        ("MAX_MODEL_LEN", "auto", "--max-model-len"),
        ("GPU_MEMORY_UTIL", "0.88", "--gpu-memory-utilization"),
        ("GPU_MEMORY_UTIL", ".5", "--gpu-memory-utilization"),
        ("GPU_MEMORY_UTIL", "1.0", "--gpu-memory-utilization"),
        ("MAX_NUM_SEQS", "256", "--max-num-seqs"),
        ("KV_CACHE_DTYPE", "fp8_e4m3", "--kv-cache-dtype"),
        ("KV_CACHE_DTYPE", "nvfp4", "--kv-cache-dtype"),
        ("SERVED_MODEL_NAME", "my model", "--served-model-name"),
    ],
)
def test_a_variable_becomes_an_option(variable: str, value: str, option: str) -> None:
    assert command(**{"MODEL": MODEL, variable: value}) == ["vllm", "serve", MODEL, option, value]


@pytest.mark.parametrize("variable", ["HOST", "PORT", "MAX_MODEL_LEN", "SERVED_MODEL_NAME", "VLLM_EXTRA_ARGS"])
def test_an_empty_variable_is_none(variable: str) -> None:
    assert command(**{"MODEL": MODEL, variable: ""}) == ["vllm", "serve", MODEL]


def test_all_of_them_together() -> None:
    expected = (
        "vllm serve DevQuasar/Qwen.Qwen3-Next-80B-A3B-Instruct-FP8-Dynamic --port 8888 --tensor-parallel-size 1 "
        "--max-model-len 65536 --gpu-memory-utilization 0.88 --kv-cache-dtype fp8 --swap-space 32 "
        "--tool-call-parser hermes --reasoning-parser qwen3"
    )
    assert shlex.join(command(**SEED)) == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HOST", "--port", "an address or a name of this machine"),
        ("HOST", " 127.0.0.1", "an address or a name of this machine"),
        ("PORT", "0", "a port from 1 to 65535"),
        ("PORT", "65536", "a port from 1 to 65535"),
        ("PORT", "8000/tcp", "a port from 1 to 65535"),
        ("PORT", " 8000", "a port from 1 to 65535"),
        ("TENSOR_PARALLEL_SIZE", "0", "a number of GPUs from 1"),
        ("TENSOR_PARALLEL_SIZE", "two", "a number of GPUs from 1"),
        ("MAX_MODEL_LEN", "0", "a number of tokens (65536, 64k), or auto"),
        ("MAX_MODEL_LEN", "-2", "a number of tokens (65536, 64k), or auto"),
        ("MAX_MODEL_LEN", "1.5", "a number of tokens (65536, 64k), or auto"),
        ("MAX_MODEL_LEN", "1.5K", "a number of tokens (65536, 64k), or auto"),
        ("MAX_MODEL_LEN", "64kb", "a number of tokens (65536, 64k), or auto"),
        ("GPU_MEMORY_UTIL", "0", "a share of the memory above 0, up to 1"),
        ("GPU_MEMORY_UTIL", "0.0", "a share of the memory above 0, up to 1"),
        ("GPU_MEMORY_UTIL", "1.1", "a share of the memory above 0, up to 1"),
        ("GPU_MEMORY_UTIL", "88", "a share of the memory above 0, up to 1"),
        ("GPU_MEMORY_UTIL", "88%", "a share of the memory above 0, up to 1"),
        ("GPU_MEMORY_UTIL", "nan", "a share of the memory above 0, up to 1"),
        ("MAX_NUM_SEQS", "0", "a number of requests from 1"),
        ("MAX_NUM_SEQS", "1e3", "a number of requests from 1"),
        ("KV_CACHE_DTYPE", "FP8", f"one of {', '.join(KV_CACHE_DTYPES)}"),
        ("KV_CACHE_DTYPE", "fp9", f"one of {', '.join(KV_CACHE_DTYPES)}"),
        ("KV_CACHE_DTYPE", "fp8 --port", f"one of {', '.join(KV_CACHE_DTYPES)}"),
        ("SERVED_MODEL_NAME", "-x", "a name"),
    ],
)
def test_a_value_that_is_none_is_refused(variable: str, value: str, expected: str) -> None:
    assert refusal(**{"MODEL": MODEL, variable: value}) == f"serve: {variable} is {value!r}, expected {expected}"


# ---- further arguments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--a 1  --b", ["--a", "1", "--b"]),
        ("--chat 'two words' --x \"it's\"", ["--chat", "two words", "--x", "it's"]),
        (
            """--override-generation-config '{"temperature": 0.7, "stop": ["\\n"]}'""",
            ["--override-generation-config", '{"temperature": 0.7, "stop": ["\\n"]}'],
        ),
        (
            r"""--json {\"a\":1} --glob '*' --dollar '$HOME'""",
            ["--json", '{"a":1}', "--glob", "*", "--dollar", "$HOME"],
        ),
        ("--empty ''\n--next", ["--empty", "", "--next"]),
    ],
)
def test_extra_arguments_are_quoted_as_in_a_shell_and_nothing_is_expanded(text: str, words: list[str]) -> None:
    made = command("--last", "a b", MODEL=MODEL, VLLM_EXTRA_ARGS=text)
    assert made == ["vllm", "serve", MODEL, *words, "--last", "a b"]
    assert shlex.split(shlex.join(made)) == made


def test_a_quotation_without_an_end_is_refused_and_no_key_of_it_is_shown() -> None:
    assert refusal(MODEL=MODEL, VLLM_EXTRA_ARGS='--api-key secret --x \'{"a": 1}') == (
        "serve: VLLM_EXTRA_ARGS is '--api-key *** --x \\'{\"a\": 1}': No closing quotation; "
        "expected options quoted as in a shell: --foo '{\"a\": 1}'"
    )
    assert "geheim" not in refusal(MODEL=MODEL, VLLM_EXTRA_ARGS='--x \'{"Authorization": "Bearer geheim"}')


@pytest.mark.parametrize(
    ("variable", "value", "extra", "said"),
    [
        ("PORT", "8000", "--port 9000", "--port"),
        ("PORT", "8000", "--port=9000", "--port"),
        ("MAX_MODEL_LEN", "64k", "--max_model_len 1", "--max_model_len"),
        ("MAX_MODEL_LEN", "64k", "--max_model-len=1", "--max_model-len"),
        ("TENSOR_PARALLEL_SIZE", "2", "-tp 2", "-tp"),
        ("TENSOR_PARALLEL_SIZE", "2", "-tp=2", "-tp"),
        ("KV_CACHE_DTYPE", "auto", "--x 1 --kv-cache-dtype fp8", "--kv-cache-dtype"),
    ],
)
def test_an_option_that_is_said_twice_is_refused(variable: str, value: str, extra: str, said: str) -> None:
    message = f"serve: {variable} is set, and {said} is given, too; say it once"
    assert refusal(**{"MODEL": MODEL, variable: value, "VLLM_EXTRA_ARGS": extra}) == message
    assert refusal(*extra.split(), **{"MODEL": MODEL, variable: value}) == message


def test_an_option_that_only_begins_like_another_may_be_given() -> None:
    assert command("--port-range", "1", "--hosts", "x", MODEL=MODEL, PORT="1", HOST="h")[-4:] == [
        "--port-range", "1", "--hosts", "x",
    ]  # fmt: skip


# ---- the model


def test_the_model_may_stand_in_the_command() -> None:
    assert command(MODEL, "--x", PORT="1") == ["vllm", "serve", MODEL, "--port", "1", "--x"]
    assert command(MODEL, MODEL=MODEL) == ["vllm", "serve", MODEL]


def test_two_models_are_refused() -> None:
    message = "serve: MODEL is a/b, and the command says c/d; say one of them"
    assert refusal("c/d", MODEL="a/b") == message


@pytest.mark.parametrize("text", ["--port", " ", "", " a/b", "a/b\n"])
def test_a_model_that_is_none_is_refused(text: str) -> None:
    expected = f"is {text!r}, expected a name such as Qwen/Qwen3-1.7B, or a folder"
    if text:
        assert refusal(MODEL=text) == f"serve: MODEL {expected}"
    if not text.startswith("-"):
        assert refusal(text, "--x") == f"serve: the model {expected}"


@pytest.mark.parametrize("word", ["--model=c/d", "--model"])
def test_a_model_as_an_option_is_refused(word: str) -> None:
    """Beside another vLLM takes no notice of it."""
    words = [word] if "=" in word else [word, "c/d"]
    message = "serve: --model is given; say the model as MODEL, or first: serve c/d"
    assert refusal(*words, MODEL="a/b") == refusal("a/b", *words) == refusal(*words) == message
    assert refusal(MODEL="a/b", VLLM_EXTRA_ARGS=" ".join(words)) == message


def test_a_file_of_options_may_name_the_model() -> None:
    assert command("--config", "x.yaml", PORT="1") == ["vllm", "serve", "--port", "1", "--config", "x.yaml"]
    assert command("--config", "x.yaml", MODEL=MODEL) == ["vllm", "serve", MODEL, "--config", "x.yaml"]


@pytest.mark.parametrize("words", [("--config=x.yaml", "--seed=1"), ("--config", "x.yaml", "--seed=1")])
def test_a_file_of_options_is_handed_over_in_two_words(words: tuple[str, ...]) -> None:
    expected = ["vllm", "serve", "--config", "x.yaml", "--seed=1"]
    assert command(*words) == command(VLLM_EXTRA_ARGS=" ".join(words)) == expected


@pytest.mark.parametrize("words", [(), ("--port", "8000")])
def test_no_model_is_refused(words: tuple[str, ...]) -> None:
    assert refusal(*words) == "serve: no model; expected -e MODEL=Qwen/Qwen3-1.7B, or: serve Qwen/Qwen3-1.7B"


@pytest.mark.parametrize(("variables", "words", "printed"), [row[1:] for row in dry_runs()])
def test_the_table_of_the_guide_says_what_a_dry_run_prints(
    variables: dict[str, str], words: list[str], printed: str
) -> None:
    """The engine suite runs each row in a container."""
    if printed.startswith("error: "):
        assert f"error: {refusal(*words, **variables)}" == printed
    else:
        assert shlex.join(without_secrets(command(*words, **variables), variables)) == printed


# ---- options of a command


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--port", "1"], "1"),
        (["--port=1"], "1"),
        (["--x", "y", "--port", "1"], "1"),
        (["--port", "1", "--port=2"], "2"),
        (["--port"], None),
        (["--ports", "1"], None),
        ([], None),
    ],
)
def test_the_value_of_an_option_is_found(words: list[str], value: str | None) -> None:
    assert option_of(["vllm", "serve", MODEL, *words], "--port") == value


def test_an_option_is_found_however_it_is_spelled() -> None:
    assert option_of(["--tensor_parallel_size=2"], "--tensor-parallel-size", "-tp") == "2"
    assert option_of(["-tp", "2"], "--tensor-parallel-size", "-tp") == "2"


@pytest.mark.parametrize(
    ("words", "several"),
    [
        ([], False),
        (["-tp", "1"], False),
        (["-tp", "2"], True),
        (["--tensor_parallel_size", "2"], True),
        (["--pipeline-parallel-size=2"], True),
        (["-pp", "2"], True),
        (["--data-parallel-size", "4"], True),
        (["--config", "two.yaml"], True),
        (["--config", "one.yaml"], False),
    ],
)
def test_a_model_over_several_gpus_needs_the_network_s_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    several: bool,  # noqa: FBT001
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text("tensor_parallel_size: 2\n", encoding="utf-8")
    (tmp_path / "one.yaml").write_text("tensor_parallel_size: 1\n", encoding="utf-8")
    assert commands._nodes(["vllm", "serve", MODEL, *words]) is several


# ---- the place


def device_folder(root: Path) -> Path:
    (root / "nvidiactl").touch()
    return root


def place(devices: Path, *words: str, settled: bool = False) -> str:
    with pytest.raises(SparkError) as caught:
        check_place(["vllm", "serve", *words], devices=devices, settled=settled)
    return str(caught.value)


@pytest.mark.parametrize("settled", [True, False])
def test_a_folder_that_is_not_there_is_refused_also_when_nothing_is_started(tmp_path: Path, settled: bool) -> None:  # noqa: FBT001
    model = str(tmp_path / "qwen")
    message = f"serve: {model} is not in this container; mount it: -v /path/on/host:{model}:ro"
    assert place(device_folder(tmp_path), model, settled=settled) == message


def test_a_container_without_a_gpu_is_refused(tmp_path: Path) -> None:
    assert place(tmp_path, MODEL) == (
        "serve: no GPU in this container; start it with --gpus all; `nox -s doctor` on the host says what it lacks"
    )
    check_place(["vllm", "serve", MODEL], devices=tmp_path, settled=True)


@pytest.mark.usefixtures("loopback")
def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    devices = device_folder(tmp_path)
    with listening() as port:
        message = f"serve: port {port} is in use; set PORT to another, or end what listens: ss -ltnp"
        assert place(devices, MODEL, "--port", str(port)) == message
        assert place(devices, MODEL, f"--port={port}", "--host", "127.0.0.1") == message
    check_place(["vllm", "serve", str(tmp_path), "--port", str(port)], devices=devices)


@pytest.mark.usefixtures("loopback")
def test_an_address_that_cannot_be_listened_at_is_refused() -> None:
    with pytest.raises(SparkError, match=r"^serve: cannot listen at spark-9:8000: .+; see HOST and PORT$"):
        check_port("spark-9", 8000)
    with pytest.raises(SparkError, match=r"^serve: '\.\.' is no name of a host; see HOST$"):
        check_port("..", 8000)


@pytest.mark.parametrize("port", ["abc", "0", "99999"])
def test_a_port_that_is_none_is_refused_also_as_an_option(tmp_path: Path, port: str) -> None:
    message = f"serve: --port is {port!r}, expected a port from 1 to 65535"
    assert refusal(MODEL, "--port", port) == message
    assert refusal(MODEL=MODEL, VLLM_EXTRA_ARGS=f"--port={port}") == message
    (tmp_path / "x.yaml").write_text(f"model: m\nport: {port}\n", encoding="utf-8")
    assert place(device_folder(tmp_path), "--config", str(tmp_path / "x.yaml")) == message


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("words", [("--headless",), ("--uds", "/run/vllm.sock"), ("--uds=/run/vllm.sock",)])
def test_what_listens_at_no_port_needs_none(tmp_path: Path, words: tuple[str, ...]) -> None:
    with listening() as port:
        check_place(["vllm", "serve", MODEL, "--port", str(port), *words], devices=device_folder(tmp_path))


# ---- a file of options


def test_lines_of_a_file_are_read_as_yaml_has_them(tmp_path: Path) -> None:
    text = "# port: 1\nmodel: 'Qwen/Qwen3-1.7B'\nserved_model_name: \"q\"  # ours\nnested:\n  port: 3\nhost:\n"
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    names = ("model", "served-model-name", "port", "host", "nested")
    found = [from_file(["vllm", "serve", "--config", "x.yaml"], one, tmp_path) for one in names]
    assert found == [MODEL, "q", None, None, None]
    assert from_file(["vllm", "serve", "--config", "y.yaml"], "model", tmp_path) is None
    assert from_file(["vllm", "serve", "m"], "model", tmp_path) is None


@pytest.mark.parametrize("settled", [True, False])
def test_a_file_that_is_not_there_or_names_no_model_is_refused(tmp_path: Path, settled: bool) -> None:  # noqa: FBT001
    path, devices = tmp_path / "x.yaml", device_folder(tmp_path)
    assert place(devices, "--config", str(path), settled=settled) == (
        f"serve: --config {path} is not in this container; mount it: -v /path/on/host:{path}:ro"
    )
    path.write_text("port: 1\n", encoding="utf-8")
    assert place(devices, "--config", str(path), settled=settled) == (
        f"serve: no model, neither in MODEL nor in {path}; expected a line there: model: NAME"
    )
    path.write_text("model: m\n", encoding="utf-8")
    check_place(["vllm", "serve", "--config", str(path)], devices=devices, settled=True)


# ---- more GPUs than there are


OVER = (
    "serve: a model over {} GPUs, and {} here; over several Sparks add --distributed-executor-backend ray to "
    "VLLM_EXTRA_ARGS, in the container of `ray-head`; or --nnodes"
)


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(
    ("gpus", "words", "wanted"),
    [
        (1, ["--tensor-parallel-size", "7"], 7),
        (1, ["-tp", "2", "-pp", "2"], 4),
        (2, ["-tp=2", "--pipeline_parallel_size=2", "--distributed-executor-backend", "mp"], 4),
        (1, ["-tp", "2", "--nnodes", "1"], 2),
        (2, ["-tp", "2"], None),
        (1, ["-tp", "2", "--distributed-executor-backend", "ray"], None),
        (1, ["-tp", "2", "--nnodes", "2"], None),
        (1, ["-tp", "2", "-n", "2", "--headless"], None),
        # Not seen here is not known: a GPU of another kind, a device that is named otherwise.
        (0, ["-tp", "7"], None),
        (1, ["-tp", "x"], None),
    ],
)
def test_a_model_over_more_gpus_than_there_are_is_refused(
    tmp_path: Path, gpus: int, words: list[str], wanted: int | None
) -> None:
    devices = device_folder(tmp_path)
    for name in ("nvidia-uvm", *(f"nvidia{number}" for number in range(gpus))):
        (devices / name).touch()
    words = [MODEL, "--port", str(free_port()), *words]
    if wanted is None:
        check_place(["vllm", "serve", *words], devices=devices)
    else:
        assert place(devices, *words) == OVER.format(wanted, gpus)
    check_place(["vllm", "serve", *words], devices=devices, settled=True)


# ---- what is shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--api-key one", "--api-key ***"),
        ("--api-key one two three --x y", "--api-key *** *** *** --x y"),
        ("--api-key one -tp 2", "--api-key *** -tp 2"),
        ("--api-key=one --x y", "--api-key=*** --x y"),
        ("--api_key one", "--api_key ***"),
        ("--api_key=one", "--api_key=***"),
        ("--hf-token x --ssl-keyfile-password=y", "--hf-token *** --ssl-keyfile-password=***"),
        (f"--x {TOKEN} --y=a{TOKEN}b", "--x *** --y=a***"),
        ("--x a-token-b --key=from-a-variable", "--x a-***-b --key=***"),
        ("--x longer-token", "--x ***"),
        ("--api-keys one", "--api-keys one"),
        # As argparse reads them.
        ("--api-ke one", "--api-ke ***"),
        ("--api_ke=one two --x y", "--api_ke=*** *** --x y"),
        ("--hf-t one --ssl-keyfile-p two", "--hf-t *** --ssl-keyfile-p ***"),
        ("--ssl-keyfile one --ssl-key two", "--ssl-keyfile one --ssl-key ***"),
        ("--host one --h two -- three", "--host one --h *** -- three"),
        ("--a.api_key one --a.b.token=two --a.key 3", "--a.api_key *** --a.b.token=*** --a.key 3"),
        ("x Authorization:Bearer.abc", "x Authorization:***"),
    ],
)
def test_a_secret_is_never_shown_wherever_it_stands(text: str, shown: str) -> None:
    environment = {
        "HF_TOKEN": "token", "VLLM_API_KEY": "from-a-variable", "HUGGING_FACE_HUB_TOKEN": "longer-token",
    }  # fmt: skip
    assert " ".join(without_secrets(text.split(), environment)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"headers": {"Authorization": "Bearer ab.c-1="}}', '{"headers": {"Authorization": "***"}}'),
        ('{"authorization":"Basic a\\"b", "x": "y"}', '{"authorization":"***", "x": "y"}'),
        ('{"api_key": "a", "OPENAI_API_KEY": "b", "hf_token": "c", "db-password": "d"}',
         '{"api_key": "***", "OPENAI_API_KEY": "***", "hf_token": "***", "db-password": "***"}'),
        ('{"max_tokens": 5, "tokenizer": "a", "stop": ["b"]}', '{"max_tokens": 5, "tokenizer": "a", "stop": ["b"]}'),
        ("Authorization: Bearer abc x", "Authorization: *** x"),
        ("curl -H 'authorization: Basic YWJj'", "curl -H 'authorization: ***'"),
        ("bearer abcdefgh", "bearer ***"),
        ("the bearer of news", "the bearer of news"),
    ],
)  # fmt: skip
def test_what_names_itself_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert masked(text, {}) == shown
    assert without_secrets(["--x", text], {}) == ["--x", shown]


def test_a_short_secret_that_begins_a_longer_one_leaves_nothing_of_it() -> None:
    assert masked("x=abcdef", {"HF_TOKEN": "abc", "VLLM_API_KEY": "abcdef"}) == "x=***"


def test_an_error_shows_no_secret_either(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "geheim")
    monkeypatch.setenv("MODEL", "a/geheim")
    assert commands.main(["serve", "b"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "", "spark: error: serve: MODEL is a/***, and the command says b; say one of them\n"
    )  # fmt: skip


def test_a_dry_run_prints_the_command_without_secrets_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs.json").write_text("{}")
    monkeypatch.setattr(limits, "NEEDS", tmp_path / "needs.json")
    for key, value in {**SEED, "HF_TOKEN": TOKEN}.items():
        monkeypatch.setenv(key, value)
    assert commands.main(["serve", "--dry-run", "--api-key", "k1", "k2", "--chat-template", "a b"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert shlex.split(said.out)[-5:] == ["--api-key", "***", "***", "--chat-template", "a b"]
    assert shlex.split(said.out)[:5] == ["vllm", "serve", SEED["MODEL"], "--port", "8888"]


@pytest.mark.usefixtures("loopback")
def test_a_free_port_is_free() -> None:
    check_port("127.0.0.1", free_port())
