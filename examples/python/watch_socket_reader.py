# SPDX-License-Identifier: MIT
"""Watch a file descriptor for read events, with add_reader()."""

import socket

import becket

# Create a pair of connected file descriptors.
rsock, wsock = socket.socketpair()

loop = becket.new_event_loop()


def reader():
    data = rsock.recv(100)
    print("Received:", data.decode())

    # We are done: unregister the file descriptor.
    loop.remove_reader(rsock)

    # Stop the event loop.
    loop.stop()


# Register the file descriptor for read events.
loop.add_reader(rsock, reader)

# Simulate the reception of data from the network.
loop.call_soon(wsock.send, "abc".encode())

try:
    # Run the event loop.
    loop.run_forever()
finally:
    # We are done: close the sockets and the event loop.
    rsock.close()
    wsock.close()
    loop.close()
