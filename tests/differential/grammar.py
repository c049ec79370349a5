# SPDX-License-Identifier: MIT
"""The sentences that programs are made of.

A sentence is one statement of Python, or a block of them; what stands in
braces is filled in. Simple ones come first, as a failing program is shrunk
towards the first of a list.

    {h} {f} {t} {p}  one of two handles, futures, tasks, ...
    {c} {k} {d}      a callback, a number, a delay
    {n}              a number of bytes
    {x} {y}          one of the program's objects of the kind at hand
    {any}            something to await
    {body} {async}   a block of statements
"""

# Where the program has no other objects than functions.
SCHEDULING = (
    "w.h{h} = loop.call_soon(c{c}, {k})",
    "w.var.set({k})",
    "w.h{h}.cancel()",
    "w.h{h} = loop.call_soon(c{c}, {k}, context=w.contexts[{h}])",
    "w.h{h} = loop.call_later(w.tick({d}), c{c}, {k})",
    "w.h{h} = loop.call_later(w.tick({d}), c{c}, context=w.contexts[{h}])",
    "w.h{h} = loop.call_at(loop.time() + w.tick({d}), c{c}, {k})",
    "w.h{h} = loop.call_at(loop.time() - w.tick({d}), c{c})",
    "w.h{h} = loop.call_soon_threadsafe(c{c}, {k})",
    "w.in_thread(loop.call_soon_threadsafe, c{c}, {k})",
    "w.log(w.h{h}.cancelled())",
    "loop.stop()",
    "w.tried(loop.close)",
    "raise w.Error({k})",
    "raise SystemExit({k})",
)

FUTURES = (
    "w.f{f} = loop.create_future()",
    "w.f{f}.set_result({k})",
    "w.f{f}.set_exception(w.Error({k}))",
    "w.f{f}.cancel()",
    "w.f{f}.cancel('why {k}')",
    "w.f{f}.add_done_callback(c{c})",
    "w.f{f}.add_done_callback(c{c}, context=w.contexts[{h}])",
    "w.f{f}.remove_done_callback(c{c})",
    "w.log(w.f{f})",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t} = loop.create_task(t{k2}(), context=w.contexts[{h}])",
    "w.t{t}.cancel()",
    "w.t{t}.cancel('why {k}')",
    "w.t{t}.uncancel()",
    "w.t{t}.add_done_callback(c{c})",
    "w.log(w.t{t})",
    "w.f{f} = loop.run_in_executor(w.executor, w.job, {k})",
    "w.executor.run()",
    "w.f{f} = asyncio.gather({any}, {any}, return_exceptions={flag})",
    "w.f{f} = asyncio.shield({any})",
)

SIGNALS = (
    "w.kill()",
    "loop.add_signal_handler(signal.SIGUSR1, c{c}, {k})",
    "loop.remove_signal_handler(signal.SIGUSR1)",
)

# Only inside of coroutines.
AWAITING = (
    "say('slept', await asyncio.sleep(0, {k}))",
    "say(await {any})",
    "await asyncio.sleep(w.tick({d}))",
    "say(await asyncio.shield({any}))",
    "say(await asyncio.wait_for({any}, w.tick({d})))",
    "say(await asyncio.gather({any}, {any}, return_exceptions={flag}))",
    "say(await asyncio.wait([w.f{f}, w.t{t}], timeout=w.tick({d})))",
    "say(await asyncio.wait([w.f{f}, w.t{t}], return_when='FIRST_COMPLETED'))",
    "return {k}",
    "try:\n    {async}\nfinally:\n    say('finally')",
    "try:\n    {async}\nfinally:\n    say('slept', await asyncio.sleep(0, 1))",
    "try:\n    {async}\n"
    "except asyncio.CancelledError as e:\n    say('caught', e)",
    "try:\n    {async}\nexcept Exception as e:\n    say('caught', e)",
    "async with asyncio.timeout(w.tick({d})):\n    {async}",
    "async with asyncio.TaskGroup() as g:\n"
    "    w.t{t} = g.create_task(t{k2}())\n    {async}",
    "asyncio.current_task().cancel()",
    "say(asyncio.current_task().cancelling())",
)

# Connections, {x}.
TRANSPORTS = (
    "{x}.write({n})",
    "{x}.close()",
    "{x}.abort()",
    "{x}.writelines({n}, {n})",
    "{x}.write_eof()",
    "{x}.pause()",
    "{x}.resume()",
    "{x}.transport.set_write_buffer_limits({k}, {k})",
    "{x}.transport.set_write_buffer_limits({n})",
    "w.tried({x}.transport.get_write_buffer_limits)",
    "w.tried({x}.is_pending)",
    "w.tried({x}.is_reading)",
    "w.tried({x}.transport.is_closing)",
    "w.tried({x}.transport.can_write_eof)",
    "{x}.transport.set_protocol({x}.new_protocol())",
    "{x}.transport.set_protocol({x}.new_protocol(buffer=8))",
    "w.tried({x}.transport.write, 'text')",
    "w.tried({x}.transport.set_write_buffer_limits, high={k}, low={k})",
    "loop.call_soon({x}.close)",
    "loop.call_soon({x}.write, {n})",
    "loop.call_soon({x}.abort)",
    "{x}.write(2000000)\n{x}.write_eof()",
    "{x}.write(2000000)\n{x}.close()",
)

# Files, on connections of either kind.
SENDFILE = (
    "await {x}.sendfile({k}, {n})",
    "{x}.write({n})\nawait {x}.sendfile({k}, {n})",
    "await {x}.sendfile({k}, {n}, fallback={flag})",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t}.cancel()",
)

# Connections over TLS, {x}.
TLS = (
    "{x}.write({n})",
    "{x}.close()",
    "{x}.abort()",
    "{x}.writelines({n}, {n})",
    "{x}.write_eof()",
    "{x}.info()",
    "{x}.pause()",
    "{x}.resume()",
    "{x}.limit({k}, {k})",
    "{x}.limit({n})",
    "{x}.limit(0)",
    "w.tried({x}.transport.get_write_buffer_limits)",
    "w.tried({x}.is_pending)",
    "w.tried({x}.is_reading)",
    "w.tried({x}.transport.is_closing)",
    "w.tried({x}.transport.can_write_eof)",
    "{x}.swap()",
    "{x}.swap(buffer=8)",
    "w.tried({x}.transport.write, 'text')",
    "w.tried({x}.limit, {k}, {k})",
    "loop.call_soon({x}.close)",
    "loop.call_soon({x}.write, {n})",
    "loop.call_soon({x}.abort)",
    "{x}.write(100000)\n{x}.close()",
    "{x}.write(100000)\n{x}.write(100000)\n{x}.write(100000)",
)

# What is at the far end of them; these only while they are made.
TLS_PEERS = (
    "{x}.peer.send({x}.peer.data({n}))",
    "{x}.peer.recv()",
    "{x}.peer.recv({n})",
    "loop.call_soon({x}.peer.recv)",
    "{x}.flush()\n{x}.peer.recv()",
    "{x}.peer.write_eof()",
    "{x}.peer.send({x}.peer.data({n}))\n{x}.peer.write_eof()",
    "{x}.peer.send({x}.peer.data({n}))\n{x}.peer.send({x}.peer.data({n}))",
    "{x}.peer.cut()",
    "{x}.peer.close()",
    "{x}.peer.reset()",
    "{x}.peer.garble()",
)
TLS_HANDSHAKES = (
    "{x}.peer.handshake()",
    "{x}.peer.answer()",
    "{x}.give_up()",
)

# What is at the far end of sockets, of connections, and of all below.
PEERS = (
    "{x}.peer.send({x}.peer.data({n}))",
    "{x}.peer.recv()",
    "{x}.peer.recv({n})",
    "loop.call_soon({x}.peer.recv)",
    "{x}.flush()\n{x}.peer.recv()",
    "{x}.peer.write_eof()",
    "{x}.peer.close()",
    "{x}.peer.reset()",
)

# Sockets that the program watches, {x}.
WATCHERS = (
    "loop.add_reader({x}.sock, r{k2}, {x}, {k})",
    "loop.add_writer({x}.sock, o{k2}, {x}, {k})",
    "loop.remove_reader({x}.sock)",
    "loop.remove_writer({x}.sock)",
    "{x}.sock.send({x}.data(5))",
    "loop.call_soon(loop.remove_reader, {x}.sock)",
    "loop.call_soon(loop.add_reader, {x}.sock, r{k2}, {x}, {k})",
)

# What these return is open while sock_*() end: becket stops watching when
# one ends, CPython a turn later.
WATCHERS_ALONE = (
    "w.tried(loop.remove_reader, {x}.sock)",
    "w.tried(loop.remove_writer, {x}.sock)",
)

# None closes the socket: select() fails then, with CPython's loop as well.
SOCK_PLAIN = (
    "{x}.sock.send({x}.data(5))",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t}.cancel()",
)

SOCK_CALLS = (
    "loop.call_soon({x}.peer.send, {x}.peer.data(20))\n"
    "say({x}.lane, await loop.sock_recv({x}.sock, {n}))",
    "say({x}.lane, await loop.sock_recv({x}.sock, 1))",
    "say({x}.lane, await loop.sock_recv({x}.sock, {n}))",
    "say(await loop.sock_sendall({x}.sock, {x}.data({n})))",
    "say({x}.lane, await loop.sock_recv_into({x}.sock, {x}.buffer))",
    "say(await loop.sock_recvfrom({x}.sock, {n}))",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t}.cancel()",
)

# Streams, {x}.
STREAMS = (
    "{x}.write({n})",
    "{x}.writelines({n}, {n})",
    "{x}.writer.close()",
    "{x}.writer.write_eof()",
    "w.tried({x}.writer.is_closing)",
    "w.tried({x}.reader.at_eof)",
    "w.log({x}.reader.exception())",
    "{x}.reader.feed_data(b'fed\\n')",
    "{x}.reader.feed_eof()",
    "{x}.writer.transport.abort()",
    "{x}.writer.transport.pause_reading()",
    "{x}.writer.transport.set_write_buffer_limits({n})",
)

STREAM_CALLS = (
    "say(await {x}.reader.read({n}))",
    "say(await {x}.reader.readline())",
    "say(await {x}.reader.readexactly({n}))",
    "say(await {x}.reader.readuntil(b'\\n'))",
    "say(await {x}.reader.read())",
    "await {x}.writer.drain()",
    "await {x}.writer.wait_closed()",
    "{x}.peer.send(b'x' * 200)\nsay(await {x}.reader.read(150))",
    "for _ in range(4):\n    say(await {x}.reader.read({n}))",
    "say(await {x}.reader.readexactly(5))",
    "async for line in {x}.reader:\n    say(line)",
)

# Closed twice, CPython's TLS fails: docs/differences.md.
TLS_STREAMS = (
    *(each for each in STREAMS if "writer.close" not in each),
    "{x}.close()",
)

START_TLS = ("await {x}.start_tls()",)

LINES = (
    "{x}.peer.send(b'a line\\n')",
    "{x}.peer.send(b'one\\ntwo\\nth')",
    "{x}.peer.send(b'ree\\n')",
    "{x}.peer.send(b'x' * 200)",
    "{x}.peer.send(b'x' * 50 + b'\\n')",
)

# Servers, {x}; the names are those of the first two connections.
SERVERS = (
    "{x}.connect()",
    "{x}.connect()\n{x}.peer.send({x}.peer.data({n}))",
    "{x}.server.close()",
    "w.tried({x}.server.is_serving)",
    "w.log(len({x}.server.sockets))",
    "{x}.show_sockets()",
    "{x}.connect()\n{x}.connect()\n{x}.connect()",
    "{x}.connect()\n{x}.peer.close()",
    "{x}.drop_clients(is_hard={flag})",
    "{x}.last.write({n})",
    "{x}.last.close()",
    "{x}.last.abort()",
    "{x}.last.pause()",
    "{x}.last.resume()",
    "loop.call_soon({x}.server.close)",
    "loop.call_soon({x}.connect)",
)
SERVER_CALLS = (
    "await {x}.server.wait_closed()",
    "await {x}.start_serving()",
    "async with {x}.server:\n    {async}",
    "say(await asyncio.wait_for({x}.serve(), w.tick(1)))",
    "w.t{t} = loop.create_task({x}.serve())",
    "w.t{t}.cancel()",
)
STREAM_SERVERS = (
    *(each for each in SERVERS if ".last." not in each),
    "{x}.connect()\n{x}.peer.send(b'a line\\nand')",
    "{x}.peer.send(b' more\\n')",
    "{x}.last.write({n})",
    "{x}.last.close()",
    "{x}.last.writer.transport.abort()",
)
STREAM_SERVER_CALLS = (
    *SERVER_CALLS,
    "say(await {x}.last.reader.read({n}))",
    "say(await {x}.last.reader.readline())",
    "await {x}.last.writer.drain()",
)
SERVER_LANES = ("{x}0", "{x}1")

# Datagram endpoints, {x}.
DATAGRAMS = (
    "{x}.send({size})",
    "{x}.send({size})\n{x}.send({size})\n{x}.send({size})",
    "{x}.transport.close()",
    "{x}.transport.abort()",
    "w.tried({x}.transport.is_closing)",
    "w.tried({x}.transport.sendto, 'text')",
    "loop.call_soon({x}.send, {size})",
    "{x}.peer.send(b'')",
)
DATAGRAM_PEERS = (
    "{x}.peer.send({x}.peer.data({size}))",
    "{x}.peer.send({x}.peer.data(5))\n{x}.peer.send({x}.peer.data({size}))",
    "{x}.peer.recv()",
    "{x}.peer.close()",
)
DATAGRAM_METHODS = (
    "datagram_received",
    "connection_lost",
    "error_received",
    "connection_made",
)

# Pipes, {x}.
READ_PIPES = (
    "{x}.peer.send({x}.peer.data({size}))",
    "{x}.peer.close()",
    "{x}.close()",
    "{x}.transport.pause_reading()",
    "{x}.transport.resume_reading()",
    "w.tried({x}.transport.is_closing)",
    "loop.call_soon({x}.close)",
)
WRITE_PIPES = (
    "{x}.write({n})",
    "{x}.peer.recv()",
    "{x}.peer.close()",
    "{x}.close()",
    "{x}.abort()",
    "{x}.transport.write_eof()",
    "{x}.transport.set_write_buffer_limits({n})",
    "w.tried({x}.transport.can_write_eof)",
    "w.tried({x}.transport.is_closing)",
    "loop.call_soon({x}.write, {n})",
)
READ_METHODS = ("data_received", "connection_lost", "eof_received")
WRITE_METHODS = ("connection_lost", "pause_writing", "resume_writing")

# Subprocesses, {x}.
CHILDREN = (
    "{x}.write({n})",
    "{x}.write_line()",
    "{x}.close_pipe(0)",
    "{x}.close_pipe(1)",
    "{x}.kill()",
    "{x}.terminate()",
    "{x}.signal('SIGUSR1')",
    "{x}.signal('SIGSTOP')",
    "{x}.signal('SIGCONT')",
    "{x}.close()",
    "{x}.pause(1, {flag})",
    "w.tried({x}.transport.get_returncode)",
    "w.tried({x}.transport.is_closing)",
    "loop.call_soon({x}.kill)",
    "loop.call_soon({x}.write_line)",
    "loop.call_soon({x}.close_pipe, 0)",
)
CHILD_METHODS = (
    "connection_made",
    "pipe_data_received",
    "pipe_connection_lost",
    "process_exited",
    "connection_lost",
)

# Of asyncio.create_subprocess_exec(), {x}.
PROCESSES = (
    *CHILDREN[:10],
    "w.log({x}.process.returncode)",
    "{x}.stream('stdin').write(b'a line\\n')\n{x}.flush()",
    "{x}.stream('stdin').write_eof()\n{x}.flush()",
)
PROCESS_CALLS = (
    "say(await {x}.process.wait())",
    "say(await {x}.communicate({n}))",
    "say(await asyncio.wait_for({x}.communicate({n}), w.tick({d})))",
    "say(await asyncio.wait_for({x}.process.wait(), w.tick({d})))",
    "say(await {x}.stream('stdout').read({n}))",
    "say(await {x}.stream('stdout').readline())",
    "say(await {x}.stream('stderr').read())",
    "await {x}.stream('stdin').drain()",
    "await {x}.stream('stdin').wait_closed()",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t}.cancel()",
)

METHODS = (
    "data_received",
    "connection_lost",
    "eof_received",
    "connection_made",
    "pause_writing",
    "resume_writing",
)
BUFFERED_METHODS = ("buffer_updated", *METHODS[1:], "get_buffer")
EOF_ANSWERS = ("return True", "return False")
