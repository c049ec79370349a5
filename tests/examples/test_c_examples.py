# SPDX-License-Identifier: MIT
"""The C examples do what they say: run by meson test, one case for each.

Of the standard library alone, since the C library is tested also where there
is no pytest. BECKET_EXAMPLES names the folder of the programs.
"""

import contextlib
import datetime
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
from pathlib import Path

PROGRAMS = Path(os.environ["BECKET_EXAMPLES"])
WAIT_S = 20
# No peer's kernel takes that much of what the other end does not read.
TOO_MUCH_BYTES = 64 << 20


def start(name, *args, **options):
    """Run an example; its output is kept, its stdin empty unless given."""
    given = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    return subprocess.Popen([PROGRAMS / name, *args], **{**given, **options})


class Case(unittest.TestCase):
    def setUp(self):
        """Bound each wait, also that for a line."""
        signal.signal(signal.SIGALRM, self.give_up)
        signal.alarm(WAIT_S)
        self.addCleanup(signal.alarm, 0)

    def give_up(self, signum, frame):
        raise TimeoutError(f"still waiting after {WAIT_S} s")

    def start(self, name, *args, **options):
        process = start(name, *args, **options)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        process.kill()
        process.communicate(timeout=WAIT_S)

    def finish(self, process, text=None):
        """What it printed, if it ended well and had nothing to complain of."""
        output, errors = process.communicate(text, timeout=WAIT_S)
        self.assertEqual((process.returncode, errors), (0, ""))
        return output

    def run_example(self, name, *args):
        return self.finish(self.start(name, *args))

    def assert_fails(self, process, message):
        output, errors = process.communicate(timeout=WAIT_S)
        self.assertEqual(process.returncode, 1)
        self.assertIn(message, errors)
        return output


class HelloWorld(Case):
    def test_prints(self):
        self.assertEqual(self.run_example("hello_world"), "Hello World\n")


class DisplayDate(Case):
    def test_one_line_a_second(self):
        start_time = time.monotonic()
        before = datetime.datetime.now()
        lines = self.run_example("display_date", "3").splitlines()
        after = datetime.datetime.now()
        dates = [datetime.datetime.fromisoformat(line) for line in lines]
        self.assertEqual(len(dates), 3)
        self.assertEqual(
            [before, *dates, after], sorted(dates + [before, after])
        )
        self.assertGreaterEqual(time.monotonic() - start_time, 2)

    def test_ends_at_once(self):
        lines = self.run_example("display_date", "0").splitlines()
        self.assertEqual(len(lines), 1)


class WatchSocketProtocol(Case):
    def test_receives(self):
        output = self.run_example("watch_socket_protocol")
        self.assertEqual(output, "Received: abc\n")


class WatchSocketReader(Case):
    def test_receives(self):
        output = self.run_example("watch_socket_reader")
        self.assertEqual(output, "Received: abc\n")


class SignalHandlers(Case):
    def check(self, name):
        process = self.start("signal_handlers")
        self.assertEqual(
            process.stdout.readline(),
            "Event loop running forever, press Ctrl+C to interrupt.\n",
        )
        self.assertEqual(
            process.stdout.readline(),
            f"pid {process.pid}: send SIGINT or SIGTERM to exit.\n",
        )
        process.send_signal(getattr(signal, name))
        self.assertEqual(self.finish(process), f"got signal {name}: exit\n")

    def test_sigint(self):
        self.check("SIGINT")

    def test_sigterm(self):
        self.check("SIGTERM")

    def test_another_signal_is_not_caught(self):
        process = self.start("signal_handlers")
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        output, _ = process.communicate(timeout=WAIT_S)
        self.assertEqual((process.returncode, output), (-signal.SIGHUP, ""))


class ChoosePoller(Case):
    def check(self, backend, *args):
        self.assertEqual(
            self.run_example("choose_poller", *args),
            f"{backend}: running\nReceived: abc\n",
        )

    def test_backends(self):
        for name in ("epoll", "poll"):
            with self.subTest(name):
                self.check(name, name)

    def test_no_choice(self):
        self.check("epoll")
        self.check("epoll", "auto")

    def test_own_poller(self):
        self.check("pselect", "own")

    def test_unknown(self):
        process = self.start("choose_poller", "teletype")
        self.assertEqual(self.assert_fails(process, "EINVAL"), "")


def connect(address):
    return socket.create_connection(address, timeout=WAIT_S)


def read_all(sock):
    """What comes until the peer has finished."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


class EchoServer(Case):
    def serve(self, host="127.0.0.1"):
        """Start it and return its address."""
        process = self.start("echo_server", host, "0")
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on \[?(.*?)\]?:(\d+)\n", line)
        self.assertEqual(match[1], host)
        self.process = process
        return host, int(match[2])

    def test_echo(self):
        with connect(self.serve()) as sock:
            sock.sendall(b"one")
            self.assertEqual(sock.recv(100), b"one")
            sock.sendall(b"two")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(sock), b"two")

    def test_many_clients_at_once(self):
        address = self.serve()
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(address)) for _ in range(50)]
            for i, sock in enumerate(socks):
                sock.sendall(b"%d" % i)
                sock.shutdown(socket.SHUT_WR)
            for i, sock in reversed(list(enumerate(socks))):
                self.assertEqual(read_all(sock), b"%d" % i)

    def send_all_it_takes(self, sock, data):
        """Send data over and over, until the peer seems to take no more."""
        sock.setblocking(False)
        sent = 0
        while sent < TOO_MUCH_BYTES and select.select([], [sock], [], 0.5)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += sock.send(data[sent % len(data) :])
        sock.settimeout(WAIT_S)
        return sent

    def test_a_client_that_reads_late(self):
        """The server stops reading, and forgets nothing meanwhile."""
        data = os.urandom(1 << 16) * 64
        address = self.serve()
        with connect(address) as sock:
            sent = self.send_all_it_takes(sock, data)
            self.assertLess(sent, TOO_MUCH_BYTES)
            # Another client is served all the same.
            with connect(address) as other:
                other.sendall(b"hello")
                self.assertEqual(other.recv(100), b"hello")
            sock.shutdown(socket.SHUT_WR)
            echoed = read_all(sock)
        self.assertEqual(len(echoed), sent)
        self.assertEqual(echoed, (data * (sent // len(data) + 1))[:sent])

    def test_a_reset_harms_nobody(self):
        address = self.serve()
        with connect(address) as sock:
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            sock.sendall(b"x" * 100000)
        with connect(address) as sock:
            sock.sendall(b"still there?")
            self.assertEqual(sock.recv(100), b"still there?")

    @unittest.skipUnless(Path("/proc/net/if_inet6").exists(), "no IPv6")
    def test_ipv6(self):
        with connect(self.serve("::1")) as sock:
            sock.sendall(b"six")
            self.assertEqual(sock.recv(100), b"six")

    def test_port_in_use(self):
        _, port = self.serve()
        process = self.start("echo_server", "127.0.0.1", str(port))
        self.assertEqual(self.assert_fails(process, "EADDRINUSE"), "")

    def test_with_the_client(self):
        _, port = self.serve()
        output = self.finish(
            self.start("echo_client", "127.0.0.1", str(port), "to and fro")
        )
        self.assertEqual(output, "to and fro\n")


class DatagramServer(Case):
    def serve(self, host="127.0.0.1"):
        """A running server, and a socket that is connected to it."""
        process = self.start("datagram_server", host, "0")
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on \[?(.*?)\]?:(\d+)\n", line)
        self.assertEqual(match[1], host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(WAIT_S)
        sock.connect((host, int(match[2])))
        return process, sock

    def test_echo(self):
        _, sock = self.serve()
        for message in (b"one", b"", b"x" * 60000, b"two"):
            sock.send(message)
            self.assertEqual(sock.recv(1 << 16), message)

    def test_ipv6(self):
        _, sock = self.serve("::1")
        sock.send(b"six")
        self.assertEqual(sock.recv(100), b"six")

    def test_many_at_once(self):
        _, sock = self.serve()
        messages = [b"%d" % i for i in range(100)]
        for message in messages:
            sock.send(message)
        self.assertEqual([sock.recv(100) for _ in messages], messages)

    def test_goes_on_after_an_error(self):
        """A reply that cannot be sent is told, and nothing else suffers."""
        process, sock = self.serve()
        # Port 0 can be written into a header, but not be answered.
        try:
            sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, 17)
        except PermissionError:
            self.skipTest("raw sockets are the superuser's")
        self.addCleanup(sender.close)
        port = sock.getpeername()[1]
        header = struct.pack("!HHHH", 0, port, 8, 0)
        sender.sendto(header, ("127.0.0.1", 0))
        self.assertEqual(process.stderr.readline(), "invalid argument\n")
        sock.send(b"still there?")
        self.assertEqual(sock.recv(100), b"still there?")

    def test_address_in_use(self):
        _, sock = self.serve()
        port = str(sock.getpeername()[1])
        process = self.start("datagram_server", "127.0.0.1", port)
        self.assertEqual(self.assert_fails(process, "EADDRINUSE"), "")


class DatagramClient(Case):
    def listen(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(WAIT_S)
        sock.bind(("127.0.0.1", 0))
        return sock, str(sock.getsockname()[1])

    def test_prints_the_reply(self):
        sock, port = self.listen()
        process = self.start("datagram_client", "127.0.0.1", port, "hello")
        message, address = sock.recvfrom(100)
        self.assertEqual(message, b"hello")
        sock.sendto(b"HELLO", address)
        self.assertEqual(self.finish(process), "HELLO\n")

    def test_sends_anew(self):
        sock, port = self.listen()
        process = self.start("datagram_client", "127.0.0.1", port, "lost")
        self.assertEqual(sock.recv(100), b"lost")
        message, address = sock.recvfrom(100)
        sock.sendto(message, address)
        self.assertEqual(self.finish(process), "lost\n")

    def test_nobody_there(self):
        sock, port = self.listen()
        sock.close()
        process = self.start("datagram_client", "127.0.0.1", port)
        self.assert_fails(process, "ECONNREFUSED")


class UnixEcho(Case):
    def serve(self, path):
        """Start it, and return a function that connects."""
        process = self.start("unix_echo", path)
        self.assertEqual(process.stdout.readline(), f"listening on {path}\n")
        self.process = process

    def connect(self, address):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT_S)
        sock.connect(address)
        return sock

    def check_echo(self, address):
        with self.connect(address) as sock:
            sock.sendall(b"one")
            self.assertEqual(sock.recv(100), b"one")
            sock.sendall(b"two")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(sock), b"two")

    def test_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "echo.sock")
            self.serve(path)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.check_echo(path)
            self.process.send_signal(signal.SIGTERM)
            self.finish(self.process)
            self.assertEqual(os.listdir(folder), [])

    def test_abstract_name(self):
        name = f"@becket-example-{os.getpid()}"
        self.serve(name)
        self.check_echo(f"\0{name[1:]}")
        self.process.send_signal(signal.SIGINT)
        self.finish(self.process)

    def test_path_that_cannot_be_bound(self):
        with tempfile.NamedTemporaryFile() as file:
            process = self.start("unix_echo", file.name)
            self.assert_fails(process, "EADDRINUSE")


class ProcessOutput(Case):
    def test_lines_and_returncode(self):
        self.assertEqual(
            self.run_example(
                "process_output", "sh", "-c", "echo one; echo two; exit 3"
            ),
            "1: one\n2: two\n2 lines, returncode 3\n",
        )

    def test_much_output_without_an_end_of_line(self):
        output = self.run_example(
            "process_output", "sh", "-c", "yes | head -n 100000; printf end"
        )
        lines = output.splitlines()
        self.assertEqual(lines[99_999:100_001], ["100000: y", "100001: end"])
        self.assertEqual(lines[-1], "100001 lines, returncode 0")

    def test_ended_by_a_signal(self):
        self.assertEqual(
            self.run_example("process_output", "sh", "-c", "kill -TERM $$"),
            "0 lines, returncode -15\n",
        )

    def test_what_it_started_writes_later(self):
        process = self.start(
            "process_output", "sh", "-c", "sleep 0.1 & exit 4"
        )
        self.assertEqual(self.finish(process), "0 lines, returncode 4\n")

    def test_no_such_program(self):
        process = self.start("process_output", "/no/such/program")
        self.assert_fails(
            process, "/no/such/program: no such file or directory"
        )


@unittest.skipUnless(shutil.which("openssl"), "needs the openssl command")
class TlsEcho(Case):
    def make_certificate(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        names = [f"{folder.name}/{name}" for name in ("certificate", "key")]
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-days", "2"]
            + ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
            + ["-out", names[0], "-keyout", names[1], "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=DNS:localhost"],
            check=True,
            capture_output=True,
            timeout=WAIT_S,
        )
        return names

    def serve(self):
        """Start it; a function that connects, and verifies who it is."""
        certificate, key = self.make_certificate()
        process = self.start("tls_echo", certificate, key, "0")
        line = process.stdout.readline()
        port = int(re.fullmatch(r"listening on port (\d+)\n", line)[1])
        context = ssl.create_default_context(cafile=certificate)

        def connect():
            plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
            return context.wrap_socket(plain, server_hostname="localhost")

        return process, connect

    def test_echo(self):
        process, connect = self.serve()
        data = os.urandom(300_000)
        with connect() as first, connect() as second:
            second.sendall(b"second")
            first.sendall(data)
            received = b""
            while len(received) < len(data):
                received += first.recv(65536)
            self.assertEqual(received, data)
            self.assertEqual(second.recv(100), b"second")
        process.send_signal(signal.SIGTERM)
        self.finish(process)

    def test_what_is_no_tls_is_refused(self):
        process, connect = self.serve()
        with connect() as sock:
            address = sock.getpeername()
        with socket.create_connection(address, WAIT_S) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            self.assertNotIn(b"GET", read_all(plain))
        with connect() as sock:
            sock.sendall(b"still there")
            self.assertEqual(sock.recv(100), b"still there")
        process.send_signal(signal.SIGINT)
        self.finish(process)

    def test_no_certificate(self):
        process = self.start("tls_echo", "/no/such/file", "/no/such/key", "0")
        _, errors = process.communicate(timeout=WAIT_S)
        self.assertEqual(process.returncode, 2)
        self.assertIn("usage: tls_echo", errors)


class EchoClient(Case):
    def listen(self):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(WAIT_S)
        self.addCleanup(listener.close)
        return listener, str(listener.getsockname()[1])

    def host(self):
        """A name, where there is one: a bare system has no hosts file."""
        try:
            socket.getaddrinfo("localhost", None)
        except socket.gaierror:
            return "127.0.0.1"
        return "localhost"

    def test_prints_what_comes_back(self):
        listener, port = self.listen()
        process = self.start("echo_client", self.host(), port, "hello")
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(WAIT_S)
            self.assertEqual(read_all(sock), b"hello")
            sock.sendall(b"HEL")
            sock.sendall(b"LO")
        self.assertEqual(self.finish(process), "HELLO\n")

    def test_long_message(self):
        listener, port = self.listen()
        message = "0123456789" * 10000
        process = self.start("echo_client", "127.0.0.1", port, message)
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(WAIT_S)
            self.assertEqual(read_all(sock), message.encode())
        self.assertEqual(self.finish(process), "\n")

    def test_reset(self):
        listener, port = self.listen()
        process = self.start("echo_client", "127.0.0.1", port)
        sock, _ = listener.accept()
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        sock.close()
        self.assert_fails(process, "ECONNRESET")

    def test_nobody_listens(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            process = self.start(
                "echo_client", "127.0.0.1", str(bound.getsockname()[1])
            )
            self.assertEqual(self.assert_fails(process, "ECONNREFUSED"), "")


class TimerWheel(Case):
    def test_fires_in_order(self):
        start_time = time.monotonic()
        self.assertEqual(
            self.run_example("timer_wheel", "4"),
            "1000 timers, 100 cancelled\n3600 fired, 0 early, 0 disordered\n",
        )
        # The last one of the fourth turn.
        self.assertGreaterEqual(time.monotonic() - start_time, 0.3999)


class WorkerThread(Case):
    def test_results_in_the_order_sent(self):
        self.assertEqual(
            self.run_example("worker_thread").splitlines(),
            [
                "1229 primes below 10000",
                "2262 primes below 20000",
                "3245 primes below 30000",
                "4203 primes below 40000",
                "5133 primes below 50000",
            ],
        )


class TerminalLines(Case):
    def open_terminal(self):
        """Both ends; what is typed is not shown, so output stands alone."""
        terminal, program_end = pty.openpty()
        modes = termios.tcgetattr(program_end)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(program_end, termios.TCSANOW, modes)
        self.addCleanup(os.close, program_end)
        return terminal, program_end

    def test_terminal(self):
        terminal, program_end = self.open_terminal()
        process = self.start(
            "terminal_lines", stdin=program_end, start_new_session=True
        )
        os.write(terminal, b"hello\n")
        self.assertEqual(process.stdout.readline(), "1: HELLO\n")
        os.write(terminal, b"half")
        os.write(terminal, b" a line\n\ntwo more")
        self.assertEqual(process.stdout.readline(), "2: HALF A LINE\n")
        self.assertEqual(process.stdout.readline(), "3: \n")
        os.write(terminal, b"\x7f" * 4 + b"lines\n")
        self.assertEqual(process.stdout.readline(), "4: TWO LINES\n")
        os.write(terminal, b"\x04")  # Ctrl-D
        self.assertEqual(self.finish(process), "")
        os.close(terminal)

    def test_output_to_the_terminal(self):
        terminal, program_end = self.open_terminal()
        process = self.start(
            "terminal_lines",
            stdin=program_end,
            stdout=program_end,
            start_new_session=True,
        )
        os.write(terminal, b"hello\nquit\n")
        _, errors = process.communicate(timeout=WAIT_S)
        self.assertEqual((process.returncode, errors), (0, ""))
        self.assertEqual(os.read(terminal, 100), b"1: HELLO\r\n")
        os.close(terminal)

    def test_the_terminal_goes_away(self):
        terminal, program_end = self.open_terminal()
        process = self.start(
            "terminal_lines", stdin=program_end, start_new_session=True
        )
        os.write(terminal, b"hello\n")
        self.assertEqual(process.stdout.readline(), "1: HELLO\n")
        os.close(terminal)
        self.assertEqual(self.finish(process), "")

    def test_pipe(self):
        process = self.start("terminal_lines", stdin=subprocess.PIPE)
        long_line = "x" * 300
        self.assertEqual(
            self.finish(process, f"a\nb\n{long_line}\nquit\nnot read"),
            f"1: A\n2: B\n3: {'X' * 256}\n4: {'X' * 44}\n",
        )

    def test_a_file_cannot_be_watched(self):
        with tempfile.TemporaryFile() as file:
            process = self.start("terminal_lines", stdin=file)
            self.assert_fails(process, "stdin: operation not permitted")


def main():
    """Exit with 77, which is skipped to Meson, if nothing could be tried."""
    result = unittest.main(verbosity=2, exit=False).result
    if result.skipped and len(result.skipped) >= result.testsRun:
        return 77
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
