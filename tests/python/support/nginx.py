# SPDX-License-Identifier: MIT
"""nginx for a test: HTTPS on a free port, its locations given by the test."""

import contextlib

from support.certificates import NAME, make_certificate
from support.programs import find, on_free_ports, running

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    proxy_http_version 1.1;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        {locations}
    }}
}}
"""
READY = 'using the "epoll" event method'


@contextlib.contextmanager
def nginx(folder, locations):
    """Gives its port."""
    program = find("nginx", "nginx")
    certificate, key = make_certificate(NAME)

    def start(port):
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                certificate=certificate,
                key=key,
                port=port,
                locations=locations,
            )
        )
        command = [program, "-e", "stderr", "-p", folder, "-c", configuration]
        return running(command, folder / "nginx.log", READY)

    with on_free_ports(1, start) as (_, port):
        yield port
