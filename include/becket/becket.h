/* becket.h -- all of libbecket.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BECKET_BECKET_H
#define BECKET_BECKET_H

#include "becket/address.h"
#include "becket/connect.h"
#include "becket/datagram.h"
#include "becket/error.h"
#include "becket/handle.h"
#include "becket/loop.h"
#include "becket/pipe.h"
#include "becket/poller.h"
#include "becket/process.h"
#include "becket/resolver.h"
#include "becket/server.h"
#include "becket/signal.h"
#include "becket/socket.h"
#include "becket/stats.h"
#include "becket/timer.h"
#include "becket/tls.h"
#include "becket/tls_pump.h"
#include "becket/transport.h"
#include "becket/types.h"
#include "becket/unix_socket.h"
#include "becket/watch.h"

#endif
