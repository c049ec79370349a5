# SPDX-License-Identifier: MIT
"""docs/c-guide.md: every sample compiles, and the programs do as told."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[2]
GUIDE = TOP / "docs" / "c-guide.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WAIT_S = 30
# A whole build may be under way.
pytestmark = pytest.mark.timeout(300)

# As they are compiled by who copies them, and by who is strict.
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-std=gnu11"]
# The functions of a sample are not called by anybody.
PART = [*STRICT, "-Wno-unused-function", "-Wno-unused-const-variable", "-c"]
# What a program forgets to free, or does wrong, ends it with a report.
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover", "-g"]


# What runs a part that is more than a few lines.
RUN_JOBS = """
int
main(void)
{
    bk_loop *loop = NULL;
    pthread_t threads[3];
    int r = bk_loop_new(NULL, &loop);

    for (int i = 0; i < 3 && r == 0; i++) {
        r = start_job(loop, i, &threads[i]);
        if (r == 0) {
            r = -pthread_join(threads[i], NULL);
        }
    }
    bk_loop_stop(loop); /* after one turn */
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_loop_free(loop);
    return r < 0;
}
"""
RUN_SORT = """
int
main(void)
{
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = sort(loop);
    }
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_loop_free(loop);
    return r < 0;
}
"""
RUN_UPLOADS = """
static int
make_upload(bk_server *server, const bk_protocol **ret_protocol,
            void **ret_self, void *path)
{
    struct upload *upload = calloc(1, sizeof(*upload));

    (void)server;
    upload->file = fopen(path, "rb");
    *ret_protocol = &uploader;
    *ret_self = upload;
    return 0;
}

int
main(int argc, char **argv)
{
    bk_server_options options = {.host = "127.0.0.1",
                                 .protocol_factory = make_upload};
    bk_server *server = NULL;
    bk_loop *loop = NULL;
    bk_address address;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = bk_loop_create_server(loop, &uploader, argv[argc - 1], &options,
                                  &server);
    }
    if (r == 0) {
        r = bk_server_getsockname(server, 0, &address);
    }
    if (r == 0) {
        printf("serving on port %d\\n", bk_address_port(&address));
        fflush(stdout);
        r = bk_loop_run_forever(loop);
    }
    return r < 0;
}
"""


class Sample(NamedTuple):
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Of the file that a program says it is: hello.c."""
        match = re.match(r"/\* (\w+\.c) -- ", self.text)
        return match[1] if match else ""

    @property
    def is_opening(self) -> bool:
        """The includes that the shorter samples share."""
        lines = filter(None, self.text.splitlines())
        return all(line.startswith("#include") for line in lines)


def read_samples() -> list[Sample]:
    text = GUIDE.read_text()
    return [
        Sample(text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


SAMPLES = read_samples()
C_SAMPLES = [sample for sample in SAMPLES if sample.language == "c"]
PROGRAMS = {sample.name: sample.text for sample in C_SAMPLES if sample.name}
[OPENING] = [sample.text for sample in C_SAMPLES if sample.is_opening]
PARTS = [s for s in C_SAMPLES if not s.name and not s.is_opening]


def texts(language):
    return [s.text for s in SAMPLES if s.language == language]


def test_samples_are_found():
    """A fence that is not closed, or of a kind nobody tests, shows here."""
    fences = re.findall(r"^```", GUIDE.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(SAMPLES)
    kinds = {sample.language for sample in SAMPLES}
    assert kinds == {"c", "sh", "text", "meson"}
    assert sorted(PROGRAMS) == ["echo.c", "goodbye.c", "hello.c"]


def test_links():
    """What the guide points to is there."""
    links = re.findall(r"\]\((?!https:)(.*?)\)", GUIDE.read_text())
    missing = [link for link in links if not (GUIDE.parent / link).exists()]
    assert links and missing == []


@pytest.mark.parametrize("sample", PARTS, ids=lambda s: f"line {s.line}")
def test_part_compiles(installed, tmp_path, sample):
    source = tmp_path / "part.c"
    source.write_text(f"{OPENING}\n{sample.text}")
    flags = installed.flags("--cflags")
    installed.run("cc", *PART, "-o", tmp_path / "part.o", source, *flags)


@pytest.fixture
def program(installed, tmp_path):
    """Compile C source, and run it."""
    started = []

    def start(text, *arguments):
        source = tmp_path / "program.c"
        source.write_text(text)
        path = source.with_suffix("")
        flags = installed.flags("--cflags", "--libs")
        installed.run("cc", *STRICT, *SANITIZE, "-o", path, source, *flags)
        process = subprocess.Popen(
            [path, *arguments],
            env=installed.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=WAIT_S)


def part_with(word):
    """The one part that defines this, to be run."""
    [text] = [sample.text for sample in PARTS if f"\n{word}(" in sample.text]
    return f"{OPENING}\n{text}"


def finish(process):
    output, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, "")
    return output


def connect(process):
    line = process.stdout.readline()
    port = int(re.fullmatch(r"serving on port (\d+)\n", line)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_hello(program):
    [shown] = texts("text")
    assert finish(program(PROGRAMS["hello.c"])) == shown


def test_echo(program):
    with connect(program(PROGRAMS["echo.c"])) as sock:
        sock.sendall(b"to and fro")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"to and fro"


def test_goodbye(program):
    process = program(PROGRAMS["goodbye.c"])
    with connect(process) as first:
        assert first.recv(100) == b"hello\n"
        with socket.create_connection(first.getpeername(), WAIT_S) as second:
            assert second.recv(100) == b"hello\n"
        with socket.create_connection(first.getpeername(), WAIT_S) as third:
            assert third.recv(100) == b"hello\n"
            process.send_signal(signal.SIGTERM)
            assert read_all(first) == b"goodbye\n"
            assert read_all(third) == b"goodbye\n"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(first.getpeername(), WAIT_S)
    assert finish(process) == ""


def test_goodbye_to_nobody(program):
    process = program(PROGRAMS["goodbye.c"])
    connect(process).close()
    process.send_signal(signal.SIGTERM)
    assert finish(process) == ""


def test_jobs(program):
    output = finish(program(part_with("start_job") + RUN_JOBS))
    assert output == "0 -> 0\n1 -> 1\n2 -> 4\n"


def test_sort(program):
    output = finish(program(part_with("sort") + RUN_SORT))
    assert output == "one\ntwo\nreturncode 0\n"


def test_uploads(program, tmp_path):
    """To a peer that reads late, and with one that goes away meanwhile."""
    data = os.urandom(1 << 16) * 512
    (tmp_path / "data").write_bytes(data)
    text = part_with("on_more") + RUN_UPLOADS
    process = program(text, tmp_path / "data")
    with connect(process) as sock:
        with socket.create_connection(sock.getpeername(), WAIT_S) as other:
            assert data.startswith(other.recv(1000))
        assert read_all(sock) == data
    assert process.poll() is None


def test_the_first_five_minutes(installed, tmp_path):
    """The shell commands as they stand, in a home that is empty."""
    build, run = texts("sh")
    home = tmp_path / "home"
    home.mkdir()
    environment = {**installed.environment, "HOME": str(home)}
    del environment["LD_LIBRARY_PATH"], environment["PKG_CONFIG_LIBDIR"]
    tree = tmp_path / "becket"
    shutil.copytree(installed.source, tree)
    (tree / "hello.c").write_text(PROGRAMS["hello.c"])

    def shell(text):
        return subprocess.run(
            ["sh", "-euc", text],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        )

    built = shell(build)
    assert built.returncode == 0, built.stdout
    assert "libbecket" in built.stdout
    assert shell(run).stdout == texts("text")[0]


def test_subproject(installed, tmp_path):
    [sample] = texts("meson")
    (tmp_path / "subprojects").mkdir()
    (tmp_path / "subprojects" / "becket").symlink_to(installed.source)
    (tmp_path / "meson.build").write_text(f"project('user', 'c')\n{sample}")
    (tmp_path / "hello.c").write_text(PROGRAMS["hello.c"])
    installed.run("meson", "setup", "build", cwd=tmp_path)
    installed.run("meson", "compile", "-C", "build", "hello", cwd=tmp_path)
    output = installed.run(tmp_path / "build" / "hello")
    assert output == texts("text")[0]
