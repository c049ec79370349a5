/* SPDX-License-Identifier: MIT */
/* The command line of the load generator. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECTIONS_MAX 65536 /* more than one port has clients */

static const char usage[] =
    "usage: load TRANSPORT --server PID [--connections N] [--size BYTES]\n"
    "            [--warm-up SECONDS] [--seconds SECONDS | --operations N]\n"
    "            [--http | --file]\n"
    "       load TRANSPORT --size BYTES --idle\n"
    "where TRANSPORT is --tcp PORT, --tls PORT, --udp PORT\n"
    "or --unix ABSTRACT_NAME\n";

static const struct option names[] = {
    {"tcp", required_argument, NULL, 'T'},
    {"tls", required_argument, NULL, 'S'},
    {"udp", required_argument, NULL, 'U'},
    {"unix", required_argument, NULL, 'X'},
    {"server", required_argument, NULL, 'v'},
    {"connections", required_argument, NULL, 'c'},
    {"size", required_argument, NULL, 's'},
    {"warm-up", required_argument, NULL, 'w'},
    {"seconds", required_argument, NULL, 't'},
    {"operations", required_argument, NULL, 'n'},
    {"http", no_argument, NULL, 'h'},
    {"file", no_argument, NULL, 'f'},
    {"idle", no_argument, NULL, 'i'},
    {NULL, 0, NULL, 0},
};

static void
refuse(void)
{
    fputs(usage, stderr);
    exit(2);
}

static double
number(const char *text, double most)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value <= most)) {
        fprintf(stderr, "load: %s is not from 0 to %.0f\n", text, most);
        refuse();
    }
    return value;
}

static struct peer
internet(enum transport transport, const char *text)
{
    return (struct peer){
        .transport = transport,
        .port = (int)number(text, 65535),
    };
}

static void
set(struct options *o, int name, const char *text)
{
    switch (name) {
    case 'T':
        o->peer = internet(TCP, text);
        break;
    case 'S':
        o->peer = internet(TLS, text);
        break;
    case 'U':
        o->peer = internet(UDP, text);
        break;
    case 'X':
        o->peer = (struct peer){.transport = UNIX, .name = text};
        break;
    case 'v':
        o->server = (pid_t)number(text, 1 << 30);
        break;
    case 'c':
        o->connections = (size_t)number(text, CONNECTIONS_MAX);
        break;
    case 's':
        o->size = (size_t)number(text, MESSAGE_BYTES_MAX);
        break;
    case 'w':
        o->warm_up = number(text, 3600);
        break;
    case 't':
        o->seconds = number(text, 3600);
        break;
    case 'n':
        o->operations = (long)number(text, 1e12);
        break;
    case 'h':
        o->is_http = true;
        break;
    case 'f':
        o->is_file = true;
        break;
    case 'i':
        o->is_idle = true;
        break;
    default:
        refuse();
    }
}

struct options
options_parse(int argc, char **argv)
{
    struct options o = {
        .connections = 32,
        .size = 1024,
        .warm_up = 0.2,
        .seconds = 1,
    };
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        set(&o, name, optarg);
    }
    if (optind < argc || (o.peer.port == 0 && o.peer.name == NULL) ||
        o.connections == 0 || o.size == 0 || (o.server == 0 && !o.is_idle)) {
        refuse();
    }
    return o;
}
